/** What a failed request says to people. */

/** Return the sentence for people in an error page or a problem document, or null. */
export function errorSentence(body: string, type: string): string | null {
  if (type.includes('json')) {
    try {
      const found = JSON.parse(body) as { detail?: unknown }
      return typeof found.detail === 'string' ? found.detail : null
    } catch {
      return null
    }
  }
  const page = new DOMParser().parseFromString(body, 'text/html')
  return page.querySelector('[data-error-message]')?.textContent?.trim() || null
}
