/** Menus are `<details class="menu">`: they open without a script. Here: arrows, Escape, and a click outside. */

function items(menu: Element): HTMLElement[] {
  return [...menu.querySelectorAll<HTMLElement>('.menu-item:not([disabled])')]
}

function close(menu: HTMLDetailsElement, focus: boolean): void {
  menu.open = false
  if (focus) menu.querySelector('summary')?.focus()
}

function onKey(event: KeyboardEvent): void {
  const menu = (event.target as Element).closest<HTMLDetailsElement>('details.menu')
  if (!menu) return
  if (event.key === 'Escape' && menu.open) {
    event.preventDefault()
    close(menu, true)
    return
  }
  const step = { ArrowDown: 1, ArrowUp: -1, Home: 0, End: 0 }[event.key]
  if (step === undefined) return
  // Arrows inside a text field of a menu belong to the field.
  if ((event.target as Element).matches('input:not([type=checkbox], [type=radio]), textarea')) return
  event.preventDefault()
  menu.open = true
  const list = items(menu)
  const at = list.indexOf(document.activeElement as HTMLElement)
  const next =
    event.key === 'Home' ? 0 : event.key === 'End' ? list.length - 1 : (at + step + list.length) % list.length
  list[at === -1 && step === -1 ? list.length - 1 : next]?.focus()
}

function onClick(event: MouseEvent): void {
  const target = event.target as Element
  for (const menu of document.querySelectorAll<HTMLDetailsElement>('details.menu[open]')) {
    const chosen = target.closest('.menu-item')
    if (!menu.contains(target) || (chosen && menu.contains(chosen))) close(menu, false)
  }
}

export function startMenus(): void {
  document.addEventListener('keydown', onKey)
  document.addEventListener('click', onClick)
}
