/** Ctrl-K: go anywhere. The places are the links the page already has in its rail and menus. */

import { text } from './text'

interface Place {
  name: string
  address: string
  icon: Element | null
}

function places(): Place[] {
  const seen = new Map<string, Place>()
  for (const link of document.querySelectorAll<HTMLAnchorElement>('#rail a[href], #person-menu a[href], [data-place]')) {
    const name = link.dataset.place || link.textContent?.trim().replace(/\s+/g, ' ') || ''
    if (name && !seen.has(link.href)) {
      seen.set(link.href, { name, address: link.href, icon: link.querySelector('.icon') })
    }
  }
  return [...seen.values()]
}

/** Say how badly `name` fits `wanted`: 0 begins with it, 1 has a word that does, 2 holds it, 3 has its letters in order; null not at all. */
export function distance(wanted: string, name: string): number | null {
  const [needle, hay] = [wanted.trim().toLocaleLowerCase(), name.toLocaleLowerCase()]
  const at = hay.indexOf(needle)
  if (at === 0) return 0
  if (hay.includes(` ${needle}`)) return 1
  if (at > 0) return 2
  let letterAt = 0
  for (const letter of needle.replace(/\s+/g, '')) {
    letterAt = hay.indexOf(letter, letterAt) + 1
    if (letterAt === 0) return null
  }
  return 3
}

function show(list: HTMLElement, wanted: string): void {
  const found = places()
    .map((place) => ({ place, far: distance(wanted, place.name) }))
    .filter((candidate) => candidate.far !== null)
    .sort((one, other) => (one.far ?? 0) - (other.far ?? 0))
    .map((candidate) => candidate.place)
  list.replaceChildren(
    ...found.map((place, index) => {
      const link = document.createElement('a')
      link.className = 'menu-item'
      link.href = place.address
      link.role = 'option'
      link.id = `palette-${index}`
      link.tabIndex = -1
      link.setAttribute('aria-selected', String(index === 0))
      if (place.icon) link.append(place.icon.cloneNode(true))
      link.append(place.name)
      return link
    }),
  )
  if (found.length === 0) {
    const none = document.createElement('p')
    none.className = 'palette-empty'
    none.textContent = text('nothing-found')
    list.append(none)
  }
}

function move(list: HTMLElement, input: HTMLInputElement, step: number): void {
  const options = [...list.querySelectorAll<HTMLElement>('[role=option]')]
  if (options.length === 0) return
  const at = options.findIndex((option) => option.ariaSelected === 'true')
  const next = options[(at + step + options.length) % options.length]
  for (const option of options) option.setAttribute('aria-selected', String(option === next))
  next?.scrollIntoView({ block: 'nearest' })
  if (next) input.setAttribute('aria-activedescendant', next.id)
}

export function startPalette(): void {
  const dialog = document.getElementById('palette')
  const input = dialog?.querySelector<HTMLInputElement>('input')
  const list = dialog?.querySelector<HTMLElement>('[role=listbox]')
  if (!(dialog instanceof HTMLDialogElement) || !input || !list) return
  document.addEventListener('keydown', (event) => {
    if (event.key.toLowerCase() !== 'k' || !(event.ctrlKey || event.metaKey) || event.shiftKey || event.altKey) return
    event.preventDefault()
    if (dialog.open) dialog.close()
    else dialog.showModal()
  })
  dialog.addEventListener('toggle', () => {
    if (!dialog.open) return
    input.value = ''
    show(list, '')
    input.focus()
  })
  input.addEventListener('input', () => show(list, input.value))
  input.addEventListener('keydown', (event) => {
    if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
      event.preventDefault()
      move(list, input, event.key === 'ArrowDown' ? 1 : -1)
    } else if (event.key === 'Enter') {
      event.preventDefault()
      list.querySelector<HTMLAnchorElement>('[aria-selected=true]')?.click()
    }
  })
}
