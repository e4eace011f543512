/**
 * Rows of a state image on the wire, with what proves that none is missing, doubled or changed. Written by
 * `copy-server.ts`, read by `state-copy.ts`. Layout: `raft.proto`, FetchStateReply.
 */
import { crc32 } from 'node:zlib'
import type { StateRow } from '../../../../store/index.ts'
import { LedgerError } from '../../../common/errors.ts'
import type { FetchStateReply } from '../../../rpc/methods.ts'

const lengthsBytes = 8

/** What both sides keep from reply to reply. */
export class RowProof {
  checksum = 0
  rowCount = 0

  add(rows: Buffer, count: number): void {
    this.checksum = crc32(rows, this.checksum)
    this.rowCount += count
  }
}

export function encodeRows(rows: readonly StateRow[]): Buffer {
  const bytes = Buffer.allocUnsafe(
    rows.reduce((sum, [key, value]) => sum + lengthsBytes + key.length + value.length, 0),
  )
  let at = 0
  for (const [key, value] of rows) {
    at = bytes.writeUInt32LE(key.length, at)
    at = bytes.writeUInt32LE(value.length, at)
    at += key.copy(bytes, at)
    at += value.copy(bytes, at)
  }
  return bytes
}

/** Throws INVALID_REQUEST when the reply is not the next one of its image, or damaged. */
export function decodeRows(reply: FetchStateReply, proof: RowProof): readonly StateRow[] {
  const { rows: bytes } = reply
  const rows: StateRow[] = []
  let at = 0
  while (at < bytes.length) {
    if (bytes.length - at < lengthsBytes) throw malformed('ends within a row')
    const keyEnd = at + lengthsBytes + bytes.readUInt32LE(at)
    const valueEnd = keyEnd + bytes.readUInt32LE(at + 4)
    if (valueEnd > bytes.length) throw malformed('ends within a row')
    rows.push([bytes.subarray(at + lengthsBytes, keyEnd), bytes.subarray(keyEnd, valueEnd)])
    at = valueEnd
  }
  proof.add(bytes, rows.length)
  if (proof.rowCount !== reply.rowCount) throw malformed(`has ${proof.rowCount} rows, ${reply.rowCount} were sent`)
  if (proof.checksum !== reply.checksum) throw malformed('does not pass its checksum')
  return rows
}

function malformed(what: string): LedgerError {
  return new LedgerError('INVALID_REQUEST', `the state image ${what}`)
}
