/** What became of uploads, in words for people. */

export interface FileResult {
  filename: string
  outcome: string
  code: string
  label: string
  message: string
}
export interface UploadResult {
  uid: string
  filename: string
  size: number
  state: string
  counts: Record<string, number>
  files: FileResult[]
}

/** Add up the outcomes of many uploads. */
export function sum(results: Iterable<UploadResult>): Record<string, number> {
  const total: Record<string, number> = {}
  for (const result of results) {
    for (const [outcome, count] of Object.entries(result.counts)) total[outcome] = (total[outcome] ?? 0) + count
  }
  return total
}

/** Return the results that somebody should read: all but pictures without a remark and captions that found theirs. */
export function worthReading(result: UploadResult): FileResult[] {
  return result.files.filter(({ outcome, code, message }) =>
    outcome === 'caption' ? code === 'caption_waiting' : outcome === 'refused' || message !== '',
  )
}

/** Say each message once, refusals first, with the names of its files: at most five, then how many more. */
export function grouped(notes: FileResult[]): string[] {
  const names = new Map<string, string[]>()
  const ordered = [...notes].sort((a, b) => Number(b.outcome === 'refused') - Number(a.outcome === 'refused'))
  for (const note of ordered) names.set(note.message, [...(names.get(note.message) ?? []), note.filename])
  return [...names].map(([message, files]) => {
    const more = files.length > 5 ? ` +${files.length - 5}` : ''
    return `${message} ${files.slice(0, 5).join(', ')}${more}`
  })
}

/** Return the last part of the address of an upload: its uid. */
export function uidOf(address: string): string {
  return address.replace(/\/+$/, '').split('/').pop() ?? ''
}

/** Return the sentence of a problem document, or nothing. */
export function detailOf(body: string): string {
  try {
    const found = JSON.parse(body) as { detail?: unknown }
    return typeof found.detail === 'string' ? found.detail : ''
  } catch {
    return ''
  }
}
