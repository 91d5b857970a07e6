/** Time spans in words, as the server says them. */

import { text } from './frame/text'

/** Say a time span the way the server does: seconds, minutes, hours and minutes. */
export function span(seconds: number, near: Element = document.body): string {
  const whole = Math.max(0, Math.round(seconds))
  if (whole < 60) return text('seconds', { n: whole }, near)
  if (whole < 3600) return text('minutes', { n: Math.round(whole / 60) }, near)
  return text('hours', { h: Math.floor(whole / 3600), m: String(Math.floor((whole % 3600) / 60)).padStart(2, '0') }, near)
}
