/**
 * Takes apart the frames of an append as they came from a peer: one behind the other, exactly as they lie in its log.
 *
 * Called by the replica's peer server before anything else looks at them. Damage on the way is found here (S3);
 * whether a frame fits the own log (position, chain, order) is for `CommitLog.appendFrame` to judge.
 */
import { StoreError } from './errors.ts'
import { bodyMatches, frameHeaderBytes, readHeader } from './frame.ts'
import type { Frame } from './types.ts'

/** Frames as views of `bytes`. Throws BAD_FRAME when anything is damaged, cut off or left over. */
export function splitFrames(bytes: Buffer): readonly Frame[] {
  const frames: Frame[] = []
  for (let offset = 0; offset < bytes.length; ) {
    if (offset + frameHeaderBytes > bytes.length) throw bad(offset, 'header is cut off')
    const header = readHeader(bytes, offset)
    if (typeof header === 'string') throw bad(offset, header)
    if (offset + header.frameLength > bytes.length) throw bad(offset, 'body is cut off')
    const frame = bytes.subarray(offset, offset + header.frameLength)
    if (!bodyMatches(header, frame)) throw bad(offset, 'body checksum')
    frames.push({ header, bytes: frame })
    offset += header.frameLength
  }
  return frames
}

function bad(offset: number, reason: string): StoreError {
  return new StoreError('BAD_FRAME', `frame at byte ${offset} of an append: ${reason}`, { details: { offset, reason } })
}
