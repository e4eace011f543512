/**
 * The disk port on real files; the only importer of `node:fs` in `store/`.
 *
 * Callback API, because promises cost about 30 us more a call. It checks what Node does not: a write that comes back
 * short is carried on until the system names its reason (no space left), or fails as SHORT_WRITE. A failed sync is
 * passed on and never repeated: the kernel marks the pages clean, a second sync would lie.
 */
import * as fs from 'node:fs'
import { resolve } from 'node:path'
import type { Disk, DiskFile, DiskSpace } from './disk.ts'
import { DiskError, diskErrorCode } from './disk-error.ts'

/** Most buffers in one writev (IOV_MAX of Linux). */
const buffersPerWriteMax = 1024

export class NodeDisk implements Disk {
  readonly #root: string

  /** Relative paths start at `root`, by default the working directory. */
  constructor(root: string = '.') {
    this.#root = resolve(root)
  }

  async open(path: string, options: { readonly create: boolean }): Promise<DiskFile> {
    const flags = fs.constants.O_RDWR | (options.create ? fs.constants.O_CREAT : 0)
    const descriptor = await call<number>((done) => fs.open(this.#absolute(path), flags, 0o640, done))
    return new NodeDiskFile(path, descriptor)
  }

  async list(directory: string): Promise<readonly string[]> {
    try {
      return (await call<string[]>((done) => fs.readdir(this.#absolute(directory), done))).sort()
    } catch (error) {
      if (diskErrorCode(error) === 'ENOENT') return []
      throw error
    }
  }

  async makeDirectory(path: string): Promise<void> {
    await call<string | undefined>((done) => fs.mkdir(this.#absolute(path), { recursive: true, mode: 0o750 }, done))
  }

  rename(from: string, to: string): Promise<void> {
    return call<void>((done) => fs.rename(this.#absolute(from), this.#absolute(to), done))
  }

  unlink(path: string): Promise<void> {
    return call<void>((done) => fs.unlink(this.#absolute(path), done))
  }

  removeDirectory(path: string): Promise<void> {
    return call<void>((done) => fs.rmdir(this.#absolute(path), done))
  }

  async syncDirectory(path: string): Promise<void> {
    const descriptor = await call<number>((done) => fs.open(this.#absolute(path), fs.constants.O_RDONLY, done))
    try {
      await call<void>((done) => fs.fsync(descriptor, done))
    } finally {
      await call<void>((done) => fs.close(descriptor, done))
    }
  }

  /** Blocks that only the superuser may fill count neither as free nor in the total, as in `df`. */
  async space(directory: string): Promise<DiskSpace> {
    const found = await call<fs.StatsFs>((done) => fs.statfs(this.#absolute(directory), done))
    const { bsize, blocks, bfree, bavail } = found
    return { totalBytes: (blocks - bfree + bavail) * bsize, freeBytes: bavail * bsize }
  }

  #absolute(path: string): string {
    return resolve(this.#root, path)
  }
}

class NodeDiskFile implements DiskFile {
  readonly path: string
  readonly #descriptor: number

  constructor(path: string, descriptor: number) {
    this.path = path
    this.#descriptor = descriptor
  }

  async read(position: number, length: number): Promise<Buffer> {
    const buffer = Buffer.allocUnsafe(length)
    let filled = 0
    while (filled < length) {
      const count = await call<number>((done) =>
        fs.read(this.#descriptor, buffer, filled, length - filled, position + filled, done),
      )
      if (count === 0) break
      filled += count
    }
    return filled === length ? buffer : buffer.subarray(0, filled)
  }

  async write(buffers: readonly Uint8Array[], position: number): Promise<void> {
    let at = position
    for (let first = 0; first < buffers.length; first += buffersPerWriteMax) {
      at += await this.#writeAll(buffers.slice(first, first + buffersPerWriteMax), at)
    }
  }

  async #writeAll(buffers: readonly Uint8Array[], position: number): Promise<number> {
    let left = buffers.filter((buffer) => buffer.length > 0)
    let written = 0
    while (left.length > 0) {
      const count = await this.#writeSome(left, position + written)
      if (count === 0) throw new DiskError('SHORT_WRITE', `${this.path} takes no more bytes at ${position + written}`)
      written += count
      left = withoutFirst(left, count)
    }
    return written
  }

  #writeSome(buffers: readonly Uint8Array[], position: number): Promise<number> {
    const [only] = buffers
    if (only !== undefined && buffers.length === 1) {
      return call<number>((done) => fs.write(this.#descriptor, only, 0, only.length, position, done))
    }
    return call<number>((done) => fs.writev(this.#descriptor, buffers, position, done))
  }

  sync(): Promise<void> {
    return call<void>((done) => fs.fdatasync(this.#descriptor, done))
  }

  truncate(length: number): Promise<void> {
    return call<void>((done) => fs.ftruncate(this.#descriptor, length, done))
  }

  async size(): Promise<number> {
    return (await call<fs.Stats>((done) => fs.fstat(this.#descriptor, done))).size
  }

  close(): Promise<void> {
    return call<void>((done) => fs.close(this.#descriptor, done))
  }
}

/** What remains of the buffers once their first `count` bytes are written. */
function withoutFirst(buffers: readonly Uint8Array[], count: number): Uint8Array[] {
  let skip = count
  const left: Uint8Array[] = []
  for (const buffer of buffers) {
    if (skip < buffer.length) left.push(skip === 0 ? buffer : buffer.subarray(skip))
    skip = Math.max(0, skip - buffer.length)
  }
  return left
}

function call<Value>(
  start: (done: (error: NodeJS.ErrnoException | null, value?: Value) => void) => void,
): Promise<Value> {
  return new Promise((fulfil, reject) => {
    start((error, value) => {
      if (error === null || error === undefined) fulfil(value as Value)
      else reject(error)
    })
  })
}
