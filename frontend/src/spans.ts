/** Time spans in words, as the server says them. */

import { text } from './frame/text'

/** Say a time span the way the server does: seconds, minutes, hours and minutes. */
export function span(seconds: number, near: Element = document.body): string {
  const whole = Math.max(0, Math.round(seconds))
  if (whole < 60) return text('seconds', { n: whole }, near)
  if (whole < 3600) return text('minutes', { n: Math.round(whole / 60) }, near)
  return text('hours', { h: Math.floor(whole / 3600), m: String(Math.floor((whole % 3600) / 60)).padStart(2, '0') }, near)
}

/** Count on, in what has `data-seconds`, from the seconds that the server wrote; its clock and the browser's need not agree. */
export function countOn(page: HTMLElement): void {
  const running = page.querySelector<HTMLElement>('[data-seconds]')
  if (!running) return
  running.dataset.seen ??= String(performance.now())
  const since = (performance.now() - Number(running.dataset.seen)) / 1000
  running.textContent = span(Number(running.dataset.seconds) + since, page)
}
