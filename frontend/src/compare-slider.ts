/** The sample grid: a click enlarges a picture beside another step of the same prompt, with a slider between them. */

export interface SampleLine {
  step: number
  label: string
  urls: Array<string | null>
}

export interface Pair {
  column: number
  left: number
  right: number
}

/** Return what to compare a clicked picture with: the first row, or the last one if the first was clicked. */
export function pairFor(lines: readonly SampleLine[], row: number, column: number): Pair {
  const drawn = lines.map((_, index) => index).filter((index) => lines[index]?.urls[column])
  const first = drawn[0] ?? row
  const last = drawn.at(-1) ?? row
  return row === first ? { column, left: first, right: last } : { column, left: first, right: row }
}

/** Return the next column in direction `by` in which both rows have a picture; the same one if there is none. */
export function nextColumn(lines: readonly SampleLine[], pair: Pair, by: 1 | -1): number {
  const count = lines[0]?.urls.length ?? 0
  for (let n = 1; n < count; n++) {
    const column = (pair.column + by * n + count * n) % count
    if (lines[pair.left]?.urls[column] && lines[pair.right]?.urls[column]) return column
  }
  return pair.column
}

export function mount(grid: HTMLElement): () => void {
  const dialog = document.getElementById('compare') as HTMLDialogElement | null
  const source = document.getElementById('sample-pictures')?.textContent
  if (!dialog || !source) return () => undefined
  const lines = JSON.parse(source) as SampleLine[]
  const prompts = [...grid.querySelectorAll('thead th')].map((cell) => cell.textContent ?? '')
  const find = <T extends Element>(selector: string): T => dialog.querySelector<T>(selector) as T
  const frame = find<HTMLElement>('[data-compare]')
  const share = find<HTMLInputElement>('[data-compare-share]')
  const pictures = { left: find<HTMLImageElement>('[data-compare-left]'), right: find<HTMLImageElement>('[data-compare-right]') }
  const choices = {
    left: find<HTMLSelectElement>('[data-compare-choice="left"]'),
    right: find<HTMLSelectElement>('[data-compare-choice="right"]'),
  }
  const stop = new AbortController()
  const options = { signal: stop.signal }
  let pair: Pair = { column: 0, left: 0, right: 0 }

  const show = (): void => {
    find('[data-compare-prompt]').textContent = prompts[pair.column] ?? ''
    for (const side of ['left', 'right'] as const) {
      const line = lines[pair[side]]
      pictures[side].src = line?.urls[pair.column] ?? ''
      pictures[side].alt = `${prompts[pair.column] ?? ''}, ${line?.label ?? ''}`
      choices[side].replaceChildren(
        ...lines.flatMap((each, index) =>
          each.urls[pair.column] ? [new Option(each.label, String(index), false, index === pair[side])] : [],
        ),
      )
    }
  }
  const move = (): void => frame.style.setProperty('--share', share.value)

  grid.addEventListener(
    'click',
    (event) => {
      const link = (event.target as Element).closest<HTMLAnchorElement>('a[data-row]')
      if (!link || event.metaKey || event.ctrlKey) return
      event.preventDefault()
      pair = pairFor(lines, Number(link.dataset.row), Number(link.dataset.column))
      share.value = '50'
      move()
      show()
      dialog.showModal()
      share.focus()
    },
    options,
  )
  share.addEventListener('input', move, options)
  for (const side of ['left', 'right'] as const) {
    choices[side].addEventListener(
      'change',
      () => {
        pair = { ...pair, [side]: Number(choices[side].value) }
        show()
      },
      options,
    )
  }
  dialog.addEventListener(
    'keydown',
    (event) => {
      // On the slider left and right move the line; up and down change the prompt everywhere but in a list.
      if (event.target instanceof HTMLSelectElement) return
      const by = event.key === 'ArrowDown' ? 1 : event.key === 'ArrowUp' ? -1 : 0
      if (!by) return
      event.preventDefault()
      pair = { ...pair, column: nextColumn(lines, pair, by) }
      show()
    },
    options,
  )
  return () => stop.abort()
}
