/**
 * The small file beside the state database that says up to where the database is durable. Used by `state-store.ts`.
 *
 * It is the anchor outside the database: a database that holds less than its checkpoint has lost data. Two slots in
 * different pages are written in turn, so that a torn write leaves the other one. A slot that cannot be read is never
 * guessed at. Layout: `state-store.md`.
 */
import { crc32 } from 'node:zlib'
import type { Disk, DiskFile } from './disk.ts'
import { StoreError } from './errors.ts'
import type { Marker } from './marker-chain.ts'

/**
 * `verified`: content up to the checkpoint is durable and what follows was written by processes since.
 * `suspect`: the content was found after a power loss and its check has not finished.
 * `rebuilding`: the content is being thrown away.
 */
export type CheckpointState = 'verified' | 'suspect' | 'rebuilding'

export interface Checkpoint {
  readonly state: CheckpointState
  readonly marker: Marker
}

const magic = 0x43514d4c
const version = 1
const slotBytes = 64
const slotStride = 4096
const stateNumbers: Readonly<Record<CheckpointState, number>> = { verified: 1, suspect: 2, rebuilding: 3 }
const statesByNumber = new Map<number, CheckpointState>([
  [1, 'verified'],
  [2, 'suspect'],
  [3, 'rebuilding'],
])

interface Slot extends Checkpoint {
  readonly sequence: number
}

export class CheckpointFile {
  readonly #file: DiskFile
  #sequence: number
  #current: Checkpoint | null

  private constructor(file: DiskFile, slot: Slot | null) {
    this.#file = file
    this.#sequence = slot?.sequence ?? 0
    this.#current = slot
  }

  static async open(disk: Disk, directory: string): Promise<CheckpointFile> {
    const file = await disk.open(`${directory}/checkpoint`, { create: true })
    try {
      if ((await file.size()) === 0) await prepare(file)
      await disk.syncDirectory(directory)
      const slots = [decodeSlot(await file.read(0, slotBytes)), decodeSlot(await file.read(slotStride, slotBytes))]
      const newest = slots.filter((slot) => slot !== null).sort((a, b) => b.sequence - a.sequence)[0] ?? null
      return new CheckpointFile(file, newest)
    } catch (error) {
      await file.close()
      throw error
    }
  }

  /**
   * What was last saved, null in a new file or when no slot can be read. Then the chain of markers must begin at 0,
   * which it only does when nothing was pruned yet.
   */
  get current(): Checkpoint | null {
    return this.#current
  }

  /** Durable when fulfilled. Rejects with STORAGE_FAILED; never retried. */
  async save(checkpoint: Checkpoint): Promise<void> {
    const sequence = this.#sequence + 1
    try {
      await this.#file.write([encodeSlot({ ...checkpoint, sequence })], (sequence % 2) * slotStride)
      await this.#file.sync()
    } catch (error) {
      throw new StoreError('STORAGE_FAILED', `cannot write ${this.#file.path}`, { cause: error })
    }
    this.#sequence = sequence
    this.#current = checkpoint
  }

  close(): Promise<void> {
    return this.#file.close()
  }
}

/** Both slots get their space now: on a full disk they must still be writable. */
async function prepare(file: DiskFile): Promise<void> {
  try {
    await file.write([Buffer.alloc(2 * slotStride)], 0)
    await file.sync()
  } catch (error) {
    throw new StoreError('STORAGE_FAILED', `cannot make ${file.path}`, { cause: error })
  }
}

function encodeSlot(slot: Slot): Buffer {
  const bytes = Buffer.alloc(slotBytes)
  bytes.writeUInt32LE(magic, 0)
  bytes.writeUInt16LE(version, 4)
  bytes.writeUInt16LE(stateNumbers[slot.state], 6)
  bytes.writeBigUInt64LE(BigInt(slot.sequence), 8)
  bytes.writeUInt16LE(slot.marker.schema, 16)
  bytes.writeUInt32LE(slot.marker.previousChecksum, 20)
  bytes.writeUInt32LE(slot.marker.checksum, 24)
  bytes.writeBigUInt64LE(BigInt(slot.marker.from), 32)
  bytes.writeBigUInt64LE(BigInt(slot.marker.to), 40)
  bytes.write(slot.marker.hash, 48, 'hex')
  bytes.writeUInt32LE(crc32(bytes.subarray(0, 60)), 60)
  return bytes
}

function decodeSlot(bytes: Buffer): Slot | null {
  if (bytes.length !== slotBytes || bytes.readUInt32LE(0) !== magic) return null
  if (crc32(bytes.subarray(0, 60)) !== bytes.readUInt32LE(60)) return null
  const found = bytes.readUInt16LE(4)
  if (found !== version) throw new StoreError('UNKNOWN_FORMAT', `the checkpoint file has version ${found}`)
  const state = statesByNumber.get(bytes.readUInt16LE(6))
  if (!state) return null
  return {
    state,
    sequence: Number(bytes.readBigUInt64LE(8)),
    marker: {
      schema: bytes.readUInt16LE(16),
      previousChecksum: bytes.readUInt32LE(20),
      checksum: bytes.readUInt32LE(24),
      from: Number(bytes.readBigUInt64LE(32)),
      to: Number(bytes.readBigUInt64LE(40)),
      hash: bytes.toString('hex', 48, 56),
    },
  }
}
