/** htmx: which answers go into the page, and what is said when one fails. */

import htmx from 'htmx.org'
import { mountModules, unmountModules } from './mount'
import { errorSentence } from './problems'
import { text } from './text'
import { toast } from './toasts'

export function startRequests(): void {
  document.addEventListener('htmx:responseError', (event) => {
    const { xhr } = (event as CustomEvent<{ xhr: XMLHttpRequest }>).detail
    const sentence = errorSentence(xhr.responseText, xhr.getResponseHeader('Content-Type') ?? '')
    toast(sentence ?? text('failed'), 'failed')
  })
  document.addEventListener('htmx:sendError', () => toast(text('offline'), 'failed'))
  document.addEventListener('htmx:load', (event) => void mountModules(event.target as HTMLElement))
  document.addEventListener('htmx:beforeCleanupElement', (event) => unmountModules(event.target as Element))
  htmx.process(document.body)
}
