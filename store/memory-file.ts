/**
 * One file of the memory disk: pages as the process sees them, pages as the platter holds them, and every version
 * in between that a power cut may leave behind. Used by `memory-disk.ts` only.
 *
 * Pages are 4 KiB, sparse (all-zero pages are not stored) and never changed once made, so that a copy of a file
 * shares them and a snapshot costs no bytes.
 */

export const pageBytes = 4096
export const sectorBytes = 512

/** Decides what a power cut leaves. Every answer is legal, so tests may be as cruel or as exhaustive as they like. */
export interface CrashChoice {
  /** Whether this un-synced create, rename or unlink reached the disk. */
  entry(operation: string, path: string): boolean
  /** Which version of the page reached the disk: 0 = none of the un-synced ones, `versions` = the newest. */
  page(path: string, page: number, versions: number): number
  /** Whether this sector of the chosen version reached the disk; the one before it shows through where not. */
  sector(path: string, page: number, sector: number): boolean
  /** Size of a file whose size changed un-synced: one of the given (the synced one first, the newest last). */
  size(path: string, sizes: readonly number[]): number
}

type Page = Buffer
const zeroPage: Page = Buffer.alloc(pageBytes)
/** Pages are cut from slabs: memory of its own for each costs more than everything else that a write does. */
const slabPages = 32
let slab: Buffer = Buffer.alloc(0)
/** Un-synced versions kept of one page; beyond it the oldest is forgotten, which only narrows what a crash tries. */
const versionsMax = 8

export class MemoryFile {
  /** Newest content; a missing page is zero. */
  #pages: Map<number, Page>
  #durable: Map<number, Page>
  /** Un-synced versions of a page, oldest first. */
  #dirty: Map<number, Page[]>
  #sizes: number[]
  size: number
  /** Failed syncs so far. Every open handle reports each failure once, as Linux does. */
  syncFailures = 0

  constructor() {
    this.#pages = new Map()
    this.#durable = new Map()
    this.#dirty = new Map()
    this.#sizes = [0]
    this.size = 0
  }

  get durableSize(): number {
    return this.#sizes[0]!
  }

  clone(): MemoryFile {
    const copy = new MemoryFile()
    copy.#pages = new Map(this.#pages)
    copy.#durable = new Map(this.#durable)
    copy.#dirty = new Map([...this.#dirty].map(([page, versions]) => [page, [...versions]]))
    copy.#sizes = [...this.#sizes]
    copy.size = this.size
    return copy
  }

  read(position: number, length: number): Buffer {
    return readPages(this.#pages, position, Math.max(0, Math.min(length, this.size - position)))
  }

  readDurable(position = 0, length: number = this.durableSize): Buffer {
    return readPages(this.#durable, position, Math.max(0, Math.min(length, this.durableSize - position)))
  }

  /** Compares in place: the simulator asks this of every entry on every replica. */
  isDurable(position: number, bytes: Buffer): boolean {
    if (position + bytes.length > this.durableSize) return false
    for (let offset = 0; offset < bytes.length; ) {
      const inPage = (position + offset) % pageBytes
      const count = Math.min(pageBytes - inPage, bytes.length - offset)
      const page = this.#durable.get(Math.floor((position + offset) / pageBytes)) ?? zeroPage
      if (page.compare(bytes, offset, offset + count, inPage, inPage + count) !== 0) return false
      offset += count
    }
    return true
  }

  write(buffers: readonly Uint8Array[], position: number): void {
    const bytes = buffers.length === 1 ? Buffer.from(buffers[0]!) : Buffer.concat(buffers)
    let offset = 0
    while (offset < bytes.length) {
      const page = Math.floor((position + offset) / pageBytes)
      const inPage = (position + offset) % pageBytes
      const length = Math.min(pageBytes - inPage, bytes.length - offset)
      this.#change(page, inPage, bytes.subarray(offset, offset + length))
      offset += length
    }
    this.#resize(Math.max(this.size, position + bytes.length))
  }

  truncate(length: number): void {
    const firstGone = Math.ceil(length / pageBytes)
    for (const page of [...this.#pages.keys()]) {
      if (page >= firstGone) this.#push(page, zeroPage)
    }
    if (length < this.size && length % pageBytes !== 0) {
      const inPage = length % pageBytes
      this.#change(Math.floor(length / pageBytes), inPage, zeroPage.subarray(inPage))
    }
    this.#resize(length)
  }

  /** Makes everything durable. */
  sync(): void {
    for (const [page, versions] of this.#dirty) put(this.#durable, page, versions.at(-1)!)
    this.#dirty = new Map()
    this.#sizes = [this.size]
  }

  /** After a failed sync the kernel calls the pages clean: they are still read, but no later sync writes them. */
  failSync(): void {
    this.syncFailures++
    this.#dirty = new Map()
    this.#sizes = [this.durableSize]
  }

  get dirtyPages(): readonly number[] {
    return [...this.#dirty.keys()].sort((a, b) => a - b)
  }

  /** The file as a power cut leaves it. */
  afterCrash(path: string, choice: CrashChoice): MemoryFile {
    const left = new MemoryFile()
    left.#durable = new Map(this.#durable)
    for (const page of this.dirtyPages) {
      const versions = this.#dirty.get(page)!
      const chosen = choice.page(path, page, versions.length)
      if (chosen === 0) continue
      const before = chosen === 1 ? (this.#durable.get(page) ?? zeroPage) : versions[chosen - 2]!
      put(left.#durable, page, tear(path, page, before, versions[chosen - 1]!, choice))
    }
    const size = this.#sizes.length === 1 ? this.durableSize : choice.size(path, this.#sizes)
    left.#cutDurable(size)
    return left
  }

  /** Damages what is stored, in memory and on the platter alike. */
  flipBit(offset: number, bit: number): void {
    const page = Math.floor(offset / pageBytes)
    const flip = (pages: Map<number, Page>): void => {
      const copy = copyOf(pages.get(page) ?? zeroPage)
      copy[offset % pageBytes]! ^= 1 << bit
      put(pages, page, copy)
    }
    flip(this.#pages)
    flip(this.#durable)
    // Later versions that are on their way to the platter must not mend it.
    const versions = this.#dirty.get(page) ?? []
    for (const [at, version] of versions.entries()) {
      versions[at] = copyOf(version)
      versions[at]![offset % pageBytes]! ^= 1 << bit
    }
  }

  #cutDurable(size: number): void {
    const pages = this.#durable
    for (const page of [...pages.keys()]) {
      if (page * pageBytes >= size) pages.delete(page)
    }
    const last = pages.get(Math.floor(size / pageBytes))
    if (last !== undefined) {
      const kept = copyOf(last)
      kept.fill(0, size % pageBytes)
      put(pages, Math.floor(size / pageBytes), kept)
    }
    this.#pages = new Map(pages)
    this.#sizes = [size]
    this.size = size
  }

  #change(page: number, inPage: number, bytes: Uint8Array): void {
    if (bytes.length === pageBytes) {
      this.#push(page, bytes as Buffer)
      return
    }
    const copy = copyOf(this.#pages.get(page) ?? zeroPage)
    copy.set(bytes, inPage)
    this.#push(page, copy)
  }

  #push(page: number, content: Page): void {
    put(this.#pages, page, content)
    const versions = this.#dirty.get(page)
    if (versions === undefined) this.#dirty.set(page, [content])
    else {
      versions.push(content)
      if (versions.length > versionsMax) versions.shift()
    }
  }

  #resize(size: number): void {
    if (size === this.size) return
    this.size = size
    this.#sizes.push(size)
    if (this.#sizes.length > versionsMax) this.#sizes.splice(1, 1)
  }
}

function copyOf(page: Page): Page {
  if (slab.length === 0) slab = Buffer.allocUnsafeSlow(slabPages * pageBytes)
  const copy = slab.subarray(0, pageBytes)
  slab = slab.subarray(pageBytes)
  page.copy(copy)
  return copy
}

function put(pages: Map<number, Page>, page: number, content: Page): void {
  if (content.equals(zeroPage)) pages.delete(page)
  else pages.set(page, content)
}

function tear(path: string, page: number, before: Page, after: Page, choice: CrashChoice): Page {
  const torn = copyOf(before)
  for (let sector = 0; sector < pageBytes / sectorBytes; sector++) {
    const from = sector * sectorBytes
    const changed = before.compare(after, from, from + sectorBytes, from, from + sectorBytes) !== 0
    if (changed && choice.sector(path, page, sector)) after.copy(torn, from, from, from + sectorBytes)
  }
  return torn
}

function readPages(pages: Map<number, Page>, position: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length)
  let offset = 0
  while (offset < length) {
    const inPage = (position + offset) % pageBytes
    const count = Math.min(pageBytes - inPage, length - offset)
    const page = pages.get(Math.floor((position + offset) / pageBytes))
    if (page === undefined) bytes.fill(0, offset, offset + count)
    else page.copy(bytes, offset, inPage, inPage + count)
    offset += count
  }
  return bytes
}
