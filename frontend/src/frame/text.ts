/** Texts for scripts. Django renders them, translated, as attributes: there is no second catalogue. */

/** Return `data-text-<name>` of the nearest element that has it, else of `<body>`, with `{keys}` filled in. */
export function text(name: string, values: Record<string, string | number> = {}, near: Element = document.body): string {
  const attribute = `data-text-${name}`
  const holder = near.closest(`[${attribute}]`) ?? document.body
  const found = holder.getAttribute(attribute)
  if (found === null) {
    console.error(`The page gives no text "${name}"`)
    return ''
  }
  return found.replace(/\{(\w+)\}/g, (whole, key: string) => String(values[key] ?? whole))
}
