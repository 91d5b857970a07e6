/** Show the chosen tab where the row of tabs is wider than the screen. */

export function startTabs(): void {
  for (const row of document.querySelectorAll<HTMLElement>('.tabs')) {
    const chosen = row.querySelector<HTMLElement>('[aria-current]')
    if (chosen) row.scrollLeft = chosen.offsetLeft - (row.clientWidth - chosen.offsetWidth) / 2
  }
}
