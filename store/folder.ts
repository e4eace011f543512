/**
 * Small files that are written seldom and must never be half there: node identity, first configuration. Also the one
 * way to make a directory that survives a power cut.
 *
 * A record file is one checksummed JSON value, replaced as a whole: temporary file, sync, rename, sync of the
 * directory (table in `README.md`). Used by the broker at start; nothing on a hot path.
 */
import { crc32 } from 'node:zlib'
import type { Disk, DiskFile } from './disk.ts'
import { diskErrorCode } from './disk-error.ts'
import { StoreError } from './errors.ts'

/** `LMQR` in the order of the bytes on disk. */
export const recordMagic = 0x5251_4d4c
export const recordVersion = 1
const recordHeaderBytes = 16
/** A record file is small by nature; a larger one is not ours. */
const recordBytesMax = 1024 * 1024

export type JsonValue =
  | null
  | boolean
  | number
  | string
  | readonly JsonValue[]
  | { readonly [name: string]: JsonValue | undefined }

/** Makes the directory, and its entry in the parent durable. Parents further up are the caller's. */
export async function ensureDirectory(disk: Disk, path: string): Promise<void> {
  await disk.makeDirectory(path)
  await disk.syncDirectory(parentOf(path))
}

/**
 * The value in this file, null when there is no file. Its shape is the caller's to check. Rejects with ROTTEN when
 * the bytes do not pass their check, with UNKNOWN_FORMAT when a newer build wrote them.
 */
export async function readRecordFile(disk: Disk, path: string): Promise<JsonValue> {
  const bytes = await readWhole(disk, path)
  if (bytes === null) return null
  const intact =
    bytes.length >= recordHeaderBytes &&
    bytes.readUInt32LE(0) === recordMagic &&
    bytes.readUInt32LE(8) === bytes.length - recordHeaderBytes &&
    bytes.readUInt32LE(12) === checksumOf(bytes)
  if (!intact) throw new StoreError('ROTTEN', `${path} does not pass its check`, { details: { path } })
  if (bytes.readUInt32LE(4) !== recordVersion) {
    throw new StoreError('UNKNOWN_FORMAT', `${path} is of a format that this build does not know`, {
      details: { path, version: bytes.readUInt32LE(4) },
    })
  }
  return JSON.parse(bytes.toString('utf8', recordHeaderBytes)) as JsonValue
}

/** Replaces the file; durable when fulfilled. After a crash the old value or the new one is there, never a mix. */
export async function writeRecordFile(disk: Disk, path: string, value: JsonValue): Promise<void> {
  const temporary = `${path}.tmp`
  try {
    const file = await disk.open(temporary, { create: true })
    try {
      await file.truncate(0)
      await file.write([encodeRecord(value)], 0)
      await file.sync()
    } finally {
      await file.close()
    }
    await disk.rename(temporary, path)
    await disk.syncDirectory(parentOf(path))
  } catch (cause) {
    throw new StoreError('STORAGE_FAILED', `${path} could not be written`, { cause, details: { path } })
  }
}

export function encodeRecord(value: JsonValue): Buffer {
  const body = Buffer.from(JSON.stringify(value), 'utf8')
  const bytes = Buffer.alloc(recordHeaderBytes + body.length)
  bytes.writeUInt32LE(recordMagic, 0)
  bytes.writeUInt32LE(recordVersion, 4)
  bytes.writeUInt32LE(body.length, 8)
  body.copy(bytes, recordHeaderBytes)
  bytes.writeUInt32LE(checksumOf(bytes), 12)
  return bytes
}

function checksumOf(bytes: Buffer): number {
  return crc32(bytes.subarray(recordHeaderBytes), crc32(bytes.subarray(0, 12)))
}

async function readWhole(disk: Disk, path: string): Promise<Buffer | null> {
  let file: DiskFile
  try {
    file = await disk.open(path, { create: false })
  } catch (error) {
    if (diskErrorCode(error) === 'ENOENT') return null
    throw error
  }
  try {
    return await file.read(0, Math.min(await file.size(), recordHeaderBytes + recordBytesMax))
  } finally {
    await file.close()
  }
}

export function parentOf(path: string): string {
  const slash = path.lastIndexOf('/')
  if (slash < 0) return '.'
  return slash === 0 ? '/' : path.slice(0, slash)
}
