/**
 * Term, vote and commit of one replica, durable before anything that depends on them leaves the node.
 *
 * One file with two slots 4 KiB apart, written in turn; each slot holds its record twice, in sectors of their own
 * (table in `README.md`). A torn write damages one copy at most, so a slot without any intact copy is rot: it may
 * have been the newer one, a vote may be forgotten with it, and the file is refused rather than trusted.
 */
import { crc32 } from 'node:zlib'
import { invariant } from './assert.ts'
import type { HardStateApi, SavedHardState } from './contract.ts'
import type { Disk, DiskFile } from './disk.ts'
import { StoreError } from './errors.ts'
import { parentOf } from './folder.ts'
import { isZero } from './frame.ts'
import { readUint64, writeUint64 } from './uint64.ts'

/** `LMQH` in the order of the bytes on disk. */
export const hardStateMagic = 0x4851_4d4c
export const hardStateVersion = 1
export const hardStateSlotBytes = 4096
export const voteBytesMax = 256

const recordBytes = 512
const copiesAt = [0, 2048] as const
const checksumAt = 508
const noVote = 0xffff

interface SlotRecord {
  readonly sequence: number
  readonly state: SavedHardState
}

/**
 * Opens or creates the file. What is found is written once more before it is believed: it may come from the page
 * cache of a process that died before its sync. Rejects with ROTTEN, UNKNOWN_FORMAT or STORAGE_FAILED.
 */
export async function openHardState(disk: Disk, path: string): Promise<HardStateApi> {
  const file = await disk.open(path, { create: true })
  try {
    const bytes = await file.read(0, 2 * hardStateSlotBytes)
    const newest = newestRecord(bytes, path)
    const hardState = new HardStateFile(file, newest)
    if (newest === null) await prepare(disk, file, path)
    else {
      // Into both slots: the platter may lack either of them. Its own first: a failed sync may have left the very first
      // record in the page cache alone, and a slot that is blank beside a later record counts as lost.
      await hardState.saveAgain(newest)
      await hardState.save(newest.state)
    }
    return hardState
  } catch (error) {
    await file.close()
    throw error
  }
}

class HardStateFile implements HardStateApi {
  readonly #file: DiskFile
  #newest: SlotRecord | null
  #saving: Promise<void> = Promise.resolve()
  #sequence: number
  #failure: StoreError | null = null
  #closed = false

  constructor(file: DiskFile, newest: SlotRecord | null) {
    this.#file = file
    this.#newest = newest
    this.#sequence = newest?.sequence ?? 0
  }

  get current(): SavedHardState | null {
    return this.#newest?.state ?? null
  }

  save(state: SavedHardState): Promise<void> {
    this.#sequence++
    const record = { sequence: this.#sequence, state }
    this.#saving = this.#saving.then(
      () => this.#write(record),
      () => this.#write(record),
    )
    return this.#saving
  }

  /** Of what is in its slot already: a write that is torn leaves the same bytes. */
  saveAgain(record: SlotRecord): Promise<void> {
    return this.#write(record)
  }

  async close(): Promise<void> {
    if (this.#closed) return
    await this.#saving.catch(() => undefined)
    this.#closed = true
    await this.#file.close()
  }

  async #write(record: SlotRecord): Promise<void> {
    if (this.#failure !== null) throw this.#failure
    if (this.#closed) throw new StoreError('CLOSED', 'the hard state is closed')
    invariant(record.state.term >= (this.#newest?.state.term ?? 0), 'R1: the saved term never goes back')
    try {
      await this.#file.write([encodeHardState(record.sequence, record.state)], slotOf(record.sequence))
      await this.#file.sync()
    } catch (cause) {
      this.#failure = new StoreError('STORAGE_FAILED', `${this.#file.path} could not be written`, { cause })
      throw this.#failure
    }
    this.#newest = record
  }
}

/** The whole slot of one record. */
export function encodeHardState(sequence: number, state: SavedHardState): Buffer {
  const bytes = Buffer.alloc(hardStateSlotBytes)
  const vote = Buffer.from(state.vote ?? '', 'utf8')
  invariant(vote.length <= voteBytesMax, 'the vote fits into its field')
  bytes.writeUInt32LE(hardStateMagic, 0)
  bytes.writeUInt16LE(hardStateVersion, 4)
  bytes.writeUInt16LE(state.vote === null ? noVote : vote.length, 6)
  writeUint64(bytes, sequence, 8)
  writeUint64(bytes, state.term, 16)
  writeUint64(bytes, state.commit, 24)
  vote.copy(bytes, 32)
  bytes.writeUInt32LE(crc32(bytes.subarray(0, checksumAt)), checksumAt)
  bytes.copy(bytes, copiesAt[1], 0, recordBytes)
  return bytes
}

async function prepare(disk: Disk, file: DiskFile, path: string): Promise<void> {
  try {
    await file.write([Buffer.alloc(2 * hardStateSlotBytes)], 0)
    await file.sync()
    await disk.syncDirectory(parentOf(path))
  } catch (cause) {
    throw new StoreError('STORAGE_FAILED', `${path} could not be made`, { cause, details: { path } })
  }
}

/** What was saved last, null in a new file. Throws when that cannot be told for sure. */
function newestRecord(bytes: Buffer, path: string): SlotRecord | null {
  const slots = [0, 1].map((slot) => readSlot(bytes.subarray(slot * hardStateSlotBytes), path))
  const [first, second] = slots
  if (first === 'blank' && second === 'blank') return null
  const records = slots.filter((slot) => typeof slot === 'object')
  const newest = records.reduce((best, record) => (record.sequence > best.sequence ? record : best), records[0]!)
  // The first save leaves the other slot blank; after the second one both hold a record for ever.
  const complete = records.length === 2 || (newest?.sequence === 1 && slots.includes('blank'))
  if (newest === undefined || !complete) {
    throw new StoreError('ROTTEN', `${path} has lost one of its slots: a vote may be forgotten`, { details: { path } })
  }
  return newest
}

function readSlot(bytes: Buffer, path: string): SlotRecord | 'blank' | 'damaged' {
  const slot = bytes.subarray(0, hardStateSlotBytes)
  if (isZero(slot)) return 'blank'
  // A complete write leaves no copy blank: this is the torn first write of the slot, which promised nothing.
  const firstTorn = copiesAt.some((offset) => isZero(slot.subarray(offset, offset + recordBytes)))
  let newest: SlotRecord | 'blank' | 'damaged' = firstTorn ? 'blank' : 'damaged'
  for (const offset of copiesAt) {
    const record = readRecord(slot.subarray(offset, offset + recordBytes), path)
    if (record !== null && (typeof newest === 'string' || record.sequence > newest.sequence)) newest = record
  }
  return newest
}

function readRecord(bytes: Buffer, path: string): SlotRecord | null {
  if (bytes.length < recordBytes || bytes.readUInt32LE(0) !== hardStateMagic) return null
  if (crc32(bytes.subarray(0, checksumAt)) !== bytes.readUInt32LE(checksumAt)) return null
  if (bytes.readUInt16LE(4) !== hardStateVersion) {
    throw new StoreError('UNKNOWN_FORMAT', `${path} is of a format that this build does not know`, {
      details: { path, version: bytes.readUInt16LE(4) },
    })
  }
  const voteLength = bytes.readUInt16LE(6)
  const vote = voteLength === noVote ? null : bytes.toString('utf8', 32, 32 + voteLength)
  return {
    sequence: readUint64(bytes, 8),
    state: { term: readUint64(bytes, 16), vote, commit: readUint64(bytes, 24) },
  }
}

function slotOf(sequence: number): number {
  return (sequence % 2) * hardStateSlotBytes
}
