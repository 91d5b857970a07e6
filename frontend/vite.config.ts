import { readdirSync, readFileSync, statSync, unlinkSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import tailwindcss from '@tailwindcss/vite'
import type { Plugin } from 'vite'
import { defineConfig } from 'vitest/config'

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url))

/** Put the drawings of all Lucide icons into one file beside the bundle: Django's `{% icon %}` reads it. */
function icons(): Plugin {
  return {
    name: 'icons',
    apply: 'build',
    generateBundle() {
      const folder = here('node_modules/lucide-static/icons/')
      const drawings: Record<string, string> = {}
      for (const file of readdirSync(folder).sort()) {
        if (!file.endsWith('.svg')) continue
        const svg = readFileSync(folder + file, 'utf8')
        const inner = svg.slice(svg.indexOf('>', svg.indexOf('<svg')) + 1, svg.lastIndexOf('</svg>'))
        drawings[file.slice(0, -'.svg'.length)] = inner.replace(/\s*\n\s*/g, '')
      }
      this.emitFile({ type: 'asset', fileName: 'icons.json', source: JSON.stringify(drawings) })
    },
  }
}

/** Remove assets of earlier builds after a day: until then a running server may still name them in its pages. */
function prune(): Plugin {
  return {
    name: 'prune',
    apply: 'build',
    writeBundle({ dir }, bundle) {
      if (!dir) return
      const yesterday = Date.now() - 24 * 3600 * 1000
      for (const file of readdirSync(`${dir}/assets`)) {
        const path = `${dir}/assets/${file}`
        if (!(`assets/${file}` in bundle) && statSync(path).mtimeMs < yesterday) unlinkSync(path)
      }
    },
  }
}

export default defineConfig({
  base: '/static/dist/',
  // `light-dark()` is in every browser we support; the optimizer would unfold it for older ones.
  plugins: [tailwindcss({ optimize: false }), icons(), prune()],
  build: {
    outDir: here('../platform/core/static/dist'),
    emptyOutDir: false,
    manifest: true,
    target: ['chrome123', 'firefox120', 'safari17.5'],
    cssTarget: ['chrome123', 'firefox120', 'safari17.5'],
    // Fonts stay files: the content security policy allows fonts from our own address only.
    assetsInlineLimit: 0,
    // htmx's one eval is never reached: allowEval is false, and the policy forbids it besides.
    rolldownOptions: { input: 'src/main.ts', checks: { eval: false } },
  },
  test: {
    environment: 'happy-dom',
    include: ['tests/**/*.test.ts'],
  },
})
