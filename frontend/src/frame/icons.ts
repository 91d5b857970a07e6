/** Drawings for elements that scripts make; templates use `{% icon %}`. */

/** Return the SVG element of a Lucide file imported with `?raw`. */
export function drawing(file: string): SVGElement {
  const holder = document.createElement('template')
  holder.innerHTML = file.slice(file.indexOf('<svg'))
  const svg = holder.content.firstElementChild as SVGElement
  svg.setAttribute('class', 'icon')
  svg.setAttribute('aria-hidden', 'true')
  return svg
}
