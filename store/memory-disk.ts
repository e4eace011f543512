/**
 * The disk port in memory, with the ways real disks fail: for tests and for the simulator, which runs thousands of
 * clusters on it. Passes the same conformance suite as `node-disk.ts`.
 *
 * Crash model: un-synced pages (4 KiB, torn at 512 bytes), sizes and directory entries are lost or kept one by one,
 * as a `CrashChoice` decides. `crash` and `kill` end this disk: what its process still waits for never settles, and
 * the successor goes on with the disk they return.
 */
import type { Disk, DiskErrorCode, DiskFile, DiskSpace } from './disk.ts'
import { DiskError } from './disk-error.ts'
import { type CrashChoice, MemoryFile, pageBytes } from './memory-file.ts'

export type DiskOperation =
  | 'open'
  | 'list'
  | 'makeDirectory'
  | 'rename'
  | 'unlink'
  | 'removeDirectory'
  | 'syncDirectory'
  | 'space'
  | 'read'
  | 'write'
  | 'sync'
  | 'truncate'
  | 'size'
  | 'close'

export interface MemoryDiskOptions {
  /** Waited for before an operation takes effect: virtual latency, or a place to crash. */
  readonly schedule?: (operation: DiskOperation, path: string) => Promise<void>
  /** Bytes that all files may hold together; beyond it writes end short with ENOSPC. */
  readonly capacityBytes?: number
  /** Syncs fulfil and make nothing durable: the negative control that every crash test must catch. */
  readonly lyingSync?: boolean
}

interface Fault {
  readonly operation: DiskOperation
  readonly path: string | undefined
  readonly code: DiskErrorCode
  left: number
}

type Entry = MemoryFile | 'directory'
type PendingEntry =
  | { readonly kind: 'create'; readonly path: string; readonly entry: Entry }
  | { readonly kind: 'rename'; readonly path: string; readonly from: string }
  | { readonly kind: 'unlink'; readonly path: string }

export class MemoryDisk implements Disk {
  schedule: MemoryDiskOptions['schedule']
  capacityBytes: number
  lyingSync: boolean
  #entries = new Map<string, Entry>()
  #durableEntries = new Map<string, Entry>()
  #pending: PendingEntry[] = []
  #faults: Fault[] = []
  #dead = false

  constructor(options: MemoryDiskOptions = {}) {
    this.schedule = options.schedule
    this.capacityBytes = options.capacityBytes ?? Number.POSITIVE_INFINITY
    this.lyingSync = options.lyingSync ?? false
  }

  async open(path: string, options: { readonly create: boolean }): Promise<DiskFile> {
    const name = normal(path)
    await this.begin('open', name)
    let entry = this.#entries.get(name)
    if (entry === undefined) {
      if (!options.create || !this.#isDirectory(parentOf(name))) throw missing(path)
      entry = new MemoryFile()
      this.#entries.set(name, entry)
      this.#pending.push({ kind: 'create', path: name, entry })
    }
    if (entry === 'directory') throw new DiskError('EIO', `${path} is a directory`)
    return new MemoryDiskFile(this, path, name, entry)
  }

  async list(directory: string): Promise<readonly string[]> {
    const name = normal(directory)
    await this.begin('list', name)
    const names: string[] = []
    for (const path of this.#entries.keys()) {
      if (parentOf(path) === name) names.push(path.slice(name === '' ? 0 : name.length + 1))
    }
    return names.sort()
  }

  async makeDirectory(path: string): Promise<void> {
    const name = normal(path)
    await this.begin('makeDirectory', name)
    const parts = name.split('/')
    for (let count = 1; count <= parts.length; count++) {
      const ancestor = parts.slice(0, count).join('/')
      if (this.#isDirectory(ancestor)) continue
      this.#entries.set(ancestor, 'directory')
      this.#pending.push({ kind: 'create', path: ancestor, entry: 'directory' })
    }
  }

  async rename(from: string, to: string): Promise<void> {
    await this.begin('rename', normal(from))
    if (!this.#entries.has(normal(from)) || !this.#isDirectory(parentOf(normal(to)))) throw missing(from)
    this.#note({ kind: 'rename', path: normal(to), from: normal(from) })
  }

  async unlink(path: string): Promise<void> {
    await this.begin('unlink', normal(path))
    if (!this.#entries.has(normal(path))) throw missing(path)
    this.#note({ kind: 'unlink', path: normal(path) })
  }

  async removeDirectory(path: string): Promise<void> {
    const name = normal(path)
    await this.begin('removeDirectory', name)
    if (this.#entries.get(name) !== 'directory') throw missing(path)
    for (const entry of this.#entries.keys()) {
      if (parentOf(entry) === name) throw new Error(`${path} is not empty`)
    }
    this.#note({ kind: 'unlink', path: name })
  }

  async syncDirectory(path: string): Promise<void> {
    const name = normal(path)
    await this.begin('syncDirectory', name)
    if (!this.#isDirectory(name)) throw missing(path)
    if (this.lyingSync) return
    const later: PendingEntry[] = []
    for (const operation of this.#pending) {
      if (parentOf(operation.path) === name) applyEntry(this.#durableEntries, operation)
      else later.push(operation)
    }
    this.#pending = later
  }

  /** The next `times` operations of this kind (on paths that end with `path`) fail with `code`. */
  fail(
    operation: DiskOperation,
    options: { readonly code: DiskErrorCode; readonly times?: number; readonly path?: string },
  ): void {
    this.#faults.push({ operation, path: options.path, code: options.code, left: options.times ?? 1 })
  }

  /** Ends all faults that `fail` planted. */
  heal(): void {
    this.#faults = []
  }

  /** Power cut: returns what is left, without page cache. */
  crash(choice: CrashChoice): MemoryDisk {
    this.#dead = true
    const left = this.#successor()
    const files = new Map<MemoryFile, MemoryFile>()
    for (const operation of this.#pending) {
      if (choice.entry(operation.kind, operation.path)) applyEntry(this.#durableEntries, operation)
    }
    for (const [path, entry] of this.#durableEntries) {
      if (!reachable(this.#durableEntries, path)) continue
      left.#entries.set(
        path,
        copyOnce(files, entry, (file) => file.afterCrash(path, choice)),
      )
    }
    left.#durableEntries = new Map(left.#entries)
    return left
  }

  /** The process dies, the machine lives: returns the disk with page cache and all that is un-synced. */
  kill(): MemoryDisk {
    this.#dead = true
    return this.clone()
  }

  /** An independent copy of everything, synced or not. This disk lives on. */
  clone(): MemoryDisk {
    const copy = this.#successor()
    const files = new Map<MemoryFile, MemoryFile>()
    const cloneEntry = (entry: Entry): Entry => copyOnce(files, entry, (file) => file.clone())
    for (const [path, entry] of this.#entries) copy.#entries.set(path, cloneEntry(entry))
    for (const [path, entry] of this.#durableEntries) copy.#durableEntries.set(path, cloneEntry(entry))
    copy.#pending = this.#pending.map((operation) =>
      operation.kind === 'create' ? { ...operation, entry: cloneEntry(operation.entry) } : operation,
    )
    return copy
  }

  /** Un-synced pages of all files, for tests that try every subset. */
  dirtyPages(): readonly { readonly path: string; readonly page: number }[] {
    return this.paths().flatMap((path) => this.#file(path).dirtyPages.map((page) => ({ path, page })))
  }

  /** Paths of all files, sorted. */
  paths(): readonly string[] {
    return [...this.#entries].flatMap(([path, entry]) => (entry === 'directory' ? [] : [path])).sort()
  }

  /** What the process would read now. */
  contentOf(path: string): Buffer {
    const file = this.#file(normal(path))
    return file.read(0, file.size)
  }

  /** What a power cut that loses everything un-synced would leave of the file. */
  durableContentOf(path: string): Buffer {
    return this.#file(normal(path)).readDurable()
  }

  /** A part of it; empty when the file itself would be gone. */
  durableRangeOf(path: string, position: number, length: number): Buffer {
    const entry = this.#durableEntries.get(normal(path))
    if (entry === undefined || entry === 'directory') return Buffer.alloc(0)
    return entry.readDurable(position, length)
  }

  /** Whether a power cut that loses everything un-synced would leave exactly these bytes there. */
  isDurable(path: string, position: number, bytes: Buffer): boolean {
    const entry = this.#durableEntries.get(normal(path))
    return entry !== undefined && entry !== 'directory' && entry.isDurable(position, bytes)
  }

  /** Rot: flips one stored bit, unnoticed; also in a file whose removal a power cut would undo. */
  flipBit(path: string, offset: number, bit: number): void {
    const name = normal(path)
    const stored = this.#entries.get(name) ?? this.#durableEntries.get(name)
    if (stored === undefined || stored === 'directory') throw missing(path)
    stored.flipBit(offset, bit)
  }

  /** Waits for the schedule, then throws the planted fault if there is one. Not for callers of the port. */
  async begin(operation: DiskOperation, path: string): Promise<void> {
    if (this.schedule !== undefined) await this.schedule(operation, path)
    if (this.#dead) await neverSettles
    for (const fault of this.#faults) {
      if (fault.operation !== operation || fault.left === 0) continue
      if (fault.path !== undefined && !path.endsWith(fault.path)) continue
      fault.left--
      throw new DiskError(fault.code, `planted fault in ${operation} of ${path}`)
    }
  }

  /** Without a capacity nearly nothing of it is in use. */
  async space(directory: string): Promise<DiskSpace> {
    const name = normal(directory)
    await this.begin('space', name)
    if (!this.#isDirectory(name)) throw missing(directory)
    const totalBytes = Math.min(this.capacityBytes, Number.MAX_SAFE_INTEGER)
    return { totalBytes, freeBytes: Math.min(this.spaceLeft, totalBytes) }
  }

  /** Somebody else takes all space but this. */
  fillUp(leftBytes: number = 0): void {
    this.capacityBytes = this.#usedBytes() + leftBytes
  }

  /** Bytes that may still be added. */
  get spaceLeft(): number {
    if (this.capacityBytes === Number.POSITIVE_INFINITY) return this.capacityBytes
    return Math.max(0, this.capacityBytes - this.#usedBytes())
  }

  #usedBytes(): number {
    let used = 0
    for (const entry of this.#entries.values()) {
      if (entry !== 'directory') used += Math.ceil(entry.size / pageBytes) * pageBytes
    }
    return used
  }

  #successor(): MemoryDisk {
    const options = { capacityBytes: this.capacityBytes, lyingSync: this.lyingSync }
    return new MemoryDisk(this.schedule === undefined ? options : { ...options, schedule: this.schedule })
  }

  #note(operation: PendingEntry): void {
    applyEntry(this.#entries, operation)
    this.#pending.push(operation)
  }

  #isDirectory(name: string): boolean {
    return name === '' || this.#entries.get(name) === 'directory'
  }

  #file(name: string): MemoryFile {
    const entry = this.#entries.get(name)
    if (entry === undefined || entry === 'directory') throw missing(name)
    return entry
  }
}

class MemoryDiskFile implements DiskFile {
  readonly path: string
  readonly #disk: MemoryDisk
  readonly #name: string
  readonly #file: MemoryFile
  #syncFailuresSeen: number
  #closed = false

  constructor(disk: MemoryDisk, path: string, name: string, file: MemoryFile) {
    this.path = path
    this.#disk = disk
    this.#name = name
    this.#file = file
    this.#syncFailuresSeen = file.syncFailures
  }

  async read(position: number, length: number): Promise<Buffer> {
    await this.#begin('read')
    return this.#file.read(position, length)
  }

  async write(buffers: readonly Uint8Array[], position: number): Promise<void> {
    let failure: unknown
    try {
      await this.#begin('write')
    } catch (error) {
      if (!(error instanceof DiskError) || error.code !== 'SHORT_WRITE') throw error
      failure = error
    }
    let length = 0
    for (const buffer of buffers) length += buffer.length
    let room = failure === undefined ? length : Math.floor(length / 2)
    const pagesEnd = Math.ceil(this.#file.size / pageBytes) * pageBytes
    if (position + room > pagesEnd && position + room - pagesEnd > this.#disk.spaceLeft) {
      room = Math.max(0, pagesEnd + this.#disk.spaceLeft - position)
      failure ??= new DiskError('ENOSPC', `no space left for ${this.path}`)
    }
    if (room > 0) this.#file.write(room === length ? buffers : [Buffer.concat(buffers).subarray(0, room)], position)
    if (failure !== undefined) throw failure
  }

  async sync(): Promise<void> {
    try {
      await this.#begin('sync')
    } catch (error) {
      this.#file.failSync()
      this.#syncFailuresSeen = this.#file.syncFailures
      throw error
    }
    if (this.#syncFailuresSeen < this.#file.syncFailures) {
      this.#syncFailuresSeen = this.#file.syncFailures
      throw new DiskError('EIO', `an earlier sync of ${this.path} failed`)
    }
    if (!this.#disk.lyingSync) this.#file.sync()
  }

  async truncate(length: number): Promise<void> {
    await this.#begin('truncate')
    this.#file.truncate(length)
  }

  async size(): Promise<number> {
    await this.#begin('size')
    return this.#file.size
  }

  async close(): Promise<void> {
    await this.#begin('close')
    this.#closed = true
  }

  async #begin(operation: DiskOperation): Promise<void> {
    if (this.#closed) throw new DiskError('EIO', `${this.path} is closed`)
    await this.#disk.begin(operation, this.#name)
  }
}

/** A power cut that loses everything that was not synced. */
export const loseAllUnsynced: CrashChoice = {
  entry: () => false,
  page: () => 0,
  sector: () => true,
  size: (_path, sizes) => sizes[0]!,
}

/** A power cut that decides by chance. `random` is uniform in [0, 1). */
export function randomCrash(random: () => number): CrashChoice {
  const below = (limit: number): number => Math.floor(random() * limit)
  // Half of the crashes tear no page, so that both kinds of damage are tried alone as well.
  const tears = random() < 0.5
  return {
    entry: () => random() < 0.5,
    page: (_path, _page, versions) => below(versions + 1),
    sector: () => !tears || random() < 0.5,
    size: (_path, sizes) => sizes[below(sizes.length)]!,
  }
}

const neverSettles = new Promise<never>(() => undefined)

function missing(path: string): DiskError {
  return new DiskError('ENOENT', `${path} does not exist`)
}

/** Absolute and relative paths name the same tree. */
const oddPath = /^\.?\/|\/\/|\/\.\/|\/\.?$|^\.$/

function normal(path: string): string {
  // Nearly every path is normal already, and this runs several times for each operation.
  if (!oddPath.test(path)) return path
  return path
    .split('/')
    .filter((part) => part !== '' && part !== '.')
    .join('/')
}

function parentOf(name: string): string {
  const slash = name.lastIndexOf('/')
  return slash < 0 ? '' : name.slice(0, slash)
}

/** An entry whose operation depends on a lost one is lost with it. */
function applyEntry(entries: Map<string, Entry>, operation: PendingEntry): void {
  if (operation.kind === 'create') entries.set(operation.path, operation.entry)
  else if (operation.kind === 'unlink') entries.delete(operation.path)
  else {
    const entry = entries.get(operation.from)
    if (entry === undefined) return
    entries.delete(operation.from)
    entries.set(operation.path, entry)
  }
}

function reachable(entries: Map<string, Entry>, path: string): boolean {
  for (let name = parentOf(path); name !== ''; name = parentOf(name)) {
    if (entries.get(name) !== 'directory') return false
  }
  return true
}

function copyOnce(files: Map<MemoryFile, MemoryFile>, entry: Entry, copy: (file: MemoryFile) => MemoryFile): Entry {
  if (entry === 'directory') return entry
  let known = files.get(entry)
  if (known === undefined) {
    known = copy(entry)
    files.set(entry, known)
  }
  return known
}
