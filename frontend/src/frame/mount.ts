/** Load the page modules an element asks for, and let go of them when it leaves the page. */

import { modules, type PageModule } from '../modules'

const mounted = new WeakMap<Element, Array<() => void>>()

/** Mount every `data-module` in `root`, itself included; an element is mounted once, whatever is called. */
export async function mountModules(
  root: ParentNode = document,
  registry: Record<string, () => Promise<PageModule>> = modules,
): Promise<void> {
  const elements = [...root.querySelectorAll<HTMLElement>('[data-module]')]
  if (root instanceof HTMLElement && root.dataset.module) elements.unshift(root)
  await Promise.all(elements.map((element) => mount(element, registry)))
}

/** Undo what was mounted on `element`. */
export function unmountModules(element: Element): void {
  for (const undo of mounted.get(element) ?? []) undo()
  mounted.delete(element)
}

async function mount(element: HTMLElement, registry: Record<string, () => Promise<PageModule>>): Promise<void> {
  if (mounted.has(element)) return
  const undo: Array<() => void> = []
  mounted.set(element, undo)
  for (const name of (element.dataset.module ?? '').split(/\s+/).filter(Boolean)) {
    const load = registry[name]
    if (!load) {
      console.error(`There is no page module "${name}": add it to src/modules.ts`)
      continue
    }
    const loaded = await load()
    // The element may have gone while the module was on its way.
    if (mounted.get(element) === undo) undo.push(loaded.mount(element))
  }
}
