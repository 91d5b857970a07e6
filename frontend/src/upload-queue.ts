/** Files on their way: what was dropped, folders included, and how many go at once. */

/** Run at most `limit` jobs at once, in the order they came. */
export class Queue {
  private waiting: Array<() => Promise<void>> = []
  private running = 0

  constructor(private readonly limit: number) {}

  add(job: () => Promise<void>): void {
    this.waiting.push(job)
    this.next()
  }

  private next(): void {
    while (this.running < this.limit) {
      const job = this.waiting.shift()
      if (!job) return
      this.running += 1
      void job().finally(() => {
        this.running -= 1
        this.next()
      })
    }
  }
}

/** Return every file of a drop, those in folders too. */
export async function filesOf(transfer: DataTransfer): Promise<File[]> {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter((entry) => entry != null)
  if (!entries.length) return [...transfer.files]
  return (await Promise.all(entries.map(walk))).flat()
}

async function walk(entry: FileSystemEntry): Promise<File[]> {
  if (entry.name.startsWith('.')) return []
  if (entry.isFile) return [await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject))]
  const reader = (entry as FileSystemDirectoryEntry).createReader()
  const found: FileSystemEntry[] = []
  // A reader gives at most 100 entries a call, and none at the end.
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject))
    if (!some.length) break
    found.push(...some)
  }
  return (await Promise.all(found.map(walk))).flat()
}
