/**
 * Everything about a peer's frame that can be judged without its place in the log. Used before frames are appended or
 * put into a hole; `layout.ts` judges the place.
 */
import { StoreError } from './errors.ts'
import { bodyMatches, frameHeaderBytes, isZero, readHeader } from './frame.ts'
import type { FrameHeader } from './types.ts'
import { frameTypes } from './types.ts'

/** The header of the one entry that `bytes` holds. Throws BAD_FRAME. */
export function checkedPeerFrame(bytes: Buffer, segmentBytes: number): FrameHeader {
  if (bytes.length < frameHeaderBytes) throw badFrame(null, 'shorter than its header')
  const header = readHeader(bytes, 0)
  if (typeof header === 'string') throw badFrame(null, header)
  if (header.type === frameTypes.padding) throw badFrame(header, 'padding is made by the layout alone')
  if (header.frameLength !== bytes.length || bytes.length > segmentBytes) throw badFrame(header, 'length')
  if (!bodyMatches(header, bytes)) throw badFrame(header, 'body checksum')
  if (!isZero(bytes.subarray(frameHeaderBytes + header.bodyLength))) throw badFrame(header, 'alignment')
  const numbers = [header.index, header.term, header.storeTime, header.position]
  if (!numbers.every(Number.isSafeInteger)) throw badFrame(header, 'number')
  return header
}

export function badFrame(header: FrameHeader | null, reason: string): StoreError {
  const details = header === null ? { reason } : { reason, index: header.index, position: header.position }
  return new StoreError('BAD_FRAME', `the frame does not fit here: ${reason}`, { details })
}
