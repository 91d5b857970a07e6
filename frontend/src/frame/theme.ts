/** Light, dark, or as the system has it. The server writes the cookie's choice into the page: no flash. */

export type Theme = 'light' | 'dark' | 'system'

/** Show `theme` now and remember it for a year. */
export function setTheme(theme: Theme): void {
  if (theme === 'system') delete document.documentElement.dataset.theme
  else document.documentElement.dataset.theme = theme
  document.cookie = `theme=${theme};path=/;max-age=31536000;samesite=lax${location.protocol === 'https:' ? ';secure' : ''}`
  for (const button of document.querySelectorAll<HTMLButtonElement>('[data-theme-form] button')) {
    button.setAttribute('aria-pressed', String(button.value === theme))
  }
  document.dispatchEvent(new CustomEvent('themechange'))
}

/** Return a colour token (`--accent-text`) as the browser resolves it now, for canvases. */
export function colour(token: string, near: Element = document.body): string {
  const probe = document.createElement('span')
  probe.style.color = `var(${token})`
  probe.hidden = true
  near.append(probe)
  const resolved = getComputedStyle(probe).color
  probe.remove()
  return resolved
}

/** Call `redraw` whenever the colours change; returns how to stop. */
export function onThemeChange(redraw: () => void): () => void {
  const system = matchMedia('(prefers-color-scheme: dark)')
  document.addEventListener('themechange', redraw)
  system.addEventListener('change', redraw)
  return () => {
    document.removeEventListener('themechange', redraw)
    system.removeEventListener('change', redraw)
  }
}

export function startTheme(): void {
  document.addEventListener('submit', (event) => {
    const form = event.target as HTMLFormElement
    if (!form.matches('[data-theme-form]') || !(event.submitter instanceof HTMLButtonElement)) return
    event.preventDefault()
    setTheme(event.submitter.value as Theme)
  })
}
