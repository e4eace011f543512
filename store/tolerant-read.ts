/**
 * Reads of a log that may be damaged: a sector that the disk refuses becomes bytes that pass no check, so that it is
 * treated like any other rot. Used wherever damage is looked for; frames are served through `log-reader.ts`.
 */
import { diskErrorCode } from './disk-error.ts'
import { StoreError } from './errors.ts'

const pageBytes = 4096
/** More than that is no rot but a disk that is gone, and nothing may be concluded from it. */
export const unreadablePagesMax = 1024

/** Counts the pages that could not be read, over all reads of one undertaking. */
export interface UnreadablePages {
  count: number
}

/** At most `length` bytes from `position`; shorter where the file ends. */
export async function readTolerantly(
  read: (position: number, length: number) => Promise<Buffer>,
  { position, length }: { readonly position: number; readonly length: number },
  unreadable: UnreadablePages,
): Promise<Buffer> {
  try {
    return await read(position, length)
  } catch (error) {
    if (diskErrorCode(error) !== 'EIO') throw error
    if (length > pageBytes) return readPages(read, { position, length }, unreadable)
    unreadable.count++
    if (unreadable.count > unreadablePagesMax) {
      throw new StoreError('STORAGE_FAILED', 'the disk refuses to read the CommitLog', { cause: error })
    }
    return Buffer.alloc(length, 0xff)
  }
}

async function readPages(
  read: (position: number, length: number) => Promise<Buffer>,
  { position, length }: { readonly position: number; readonly length: number },
  unreadable: UnreadablePages,
): Promise<Buffer> {
  const pages: Buffer[] = []
  for (let at = 0; at < length; at += pageBytes) {
    const wanted = Math.min(pageBytes, length - at)
    const page = await readTolerantly(read, { position: position + at, length: wanted }, unreadable)
    pages.push(page)
    if (page.length < wanted) break
  }
  return Buffer.concat(pages)
}
