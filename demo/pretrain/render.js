// Render every icon of the sets below to PNG: node render.js NODE_FOLDER OUT_FOLDER
//
// resvg aborts the whole process on a few icons (noto `package`, seven of noto-v1), so a child renders and the
// parent starts a new one behind the icon the old child died on. The names it died on are written to skipped.json.
const fs = require("fs");
const path = require("path");
const { spawnSync } = require("child_process");

const SIZE = 128;
const SETS = ["noto", "noto-v1", "fluent-emoji-flat", "fluent-emoji", "fluent-emoji-high-contrast"];
const UNWANTED = /skin-tone|flag|keycap|button|input-|-thirty$|-oclock$|o-clock|beard|blond|red-hair|curly-hair|white-hair|bald|(^|-)(man|woman|men|women|person|people|couple|family|kiss|letter)(-|$)/;

const [, , nodeFolder, outFolder, childSet, childFrom] = process.argv;

function icons(set) {
  const file = path.join(nodeFolder, "node_modules/@iconify-json", set, "icons.json");
  const data = JSON.parse(fs.readFileSync(file));
  const found = new Map();
  const add = (name, icon) => {
    if (!UNWANTED.test(name)) found.set(name, icon);
  };
  for (const [name, icon] of Object.entries(data.icons)) add(name, icon);
  for (const [name, alias] of Object.entries(data.aliases || {})) {
    if (data.icons[alias.parent]) add(name, data.icons[alias.parent]);
  }
  const width = data.width || 16;
  const height = data.height || 16;
  return [...found.keys()].sort().map((name) => ({ name, width, height, ...found.get(name) }));
}

function renderFrom(set, from) {
  const { Resvg } = require(path.join(nodeFolder, "node_modules/@resvg/resvg-js"));
  const folder = path.join(outFolder, set);
  fs.mkdirSync(folder, { recursive: true });
  icons(set).slice(from).forEach((icon, offset) => {
    fs.writeFileSync(path.join(folder, ".progress"), String(from + offset));
    const box = `${icon.left || 0} ${icon.top || 0} ${icon.width} ${icon.height}`;
    const svg =
      `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="${box}" ` +
      `width="${SIZE}" height="${SIZE}" color="black">${icon.body}</svg>`;
    const png = new Resvg(svg, { fitTo: { mode: "width", value: SIZE } }).render().asPng();
    fs.writeFileSync(path.join(folder, icon.name + ".png"), png);
  });
}

function renderAll() {
  const skipped = {};
  for (const set of SETS) {
    const all = icons(set);
    let from = 0;
    skipped[set] = [];
    for (;;) {
      const child = spawnSync(process.execPath, [__filename, nodeFolder, outFolder, set, String(from)], { stdio: "ignore" });
      if (child.status === 0) break;
      const died = Number(fs.readFileSync(path.join(outFolder, set, ".progress")));
      skipped[set].push(all[died].name);
      from = died + 1;
    }
    fs.rmSync(path.join(outFolder, set, ".progress"), { force: true });
    console.log(set, all.length - skipped[set].length, "rendered, skipped", skipped[set].join(" ") || "none");
  }
  fs.writeFileSync(path.join(outFolder, "skipped.json"), JSON.stringify(skipped, null, 1));
}

if (childSet) renderFrom(childSet, Number(childFrom));
else renderAll();
