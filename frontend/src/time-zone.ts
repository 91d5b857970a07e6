/** Tell the server the browser's time zone, so that nobody has to look for theirs in a list. */

export function mount(form: HTMLElement): () => void {
  const field = form.querySelector<HTMLInputElement>('input[name=time_zone]')
  if (field && !field.value) field.value = Intl.DateTimeFormat().resolvedOptions().timeZone ?? ''
  return () => {}
}
