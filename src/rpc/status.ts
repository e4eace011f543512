/**
 * LedgerErrors as data: the `Status` message of `common.proto`, in objects and in bytes.
 *
 * Handlers on streams put it into their replies; the transport puts it into unary replies and trailers. `attempts` of
 * an error never travels: it belongs to the process that tried.
 */
import { type ErrorFacts, errorCodeOf, errorTable, LedgerError } from '../common/errors.ts'
import type { WireStatus } from './methods.ts'
import { encodeMessage, type FieldSink, WireReader } from './wire.ts'

/** Longest message that travels, in UTF-16 units; the rest is cut off, so that it always fits into a trailer. */
export const statusMessageMax = 2000

export function toWireStatus(error: LedgerError): WireStatus {
  const { leader, term, retryAfterMs, minOffset, maxOffset } = error.facts
  return {
    code: errorTable[error.code].number,
    message: error.message.slice(0, statusMessageMax),
    hint: error.hint,
    ...(leader === undefined ? {} : { leaderNode: leader.node, leaderAddress: leader.address }),
    ...(isWireNumber(term) ? { term } : {}),
    ...(isWireNumber(retryAfterMs) ? { retryAfterMs: Math.ceil(retryAfterMs) } : {}),
    ...(isWireNumber(minOffset) ? { minOffset } : {}),
    ...(isWireNumber(maxOffset) ? { maxOffset } : {}),
  }
}

/** A fact that no field can carry is left out: an error must always be able to travel. */
function isWireNumber(fact: number | undefined): fact is number {
  return fact !== undefined && fact >= 0 && fact <= Number.MAX_SAFE_INTEGER
}

/** A number that this version does not know becomes SYSTEM_ERROR, with number and hint kept in the message. */
export function fromWireStatus(status: WireStatus): LedgerError {
  const { leaderNode, leaderAddress, term, retryAfterMs, minOffset, maxOffset } = status
  const facts: ErrorFacts = {
    ...(leaderNode === undefined && leaderAddress === undefined
      ? {}
      : { leader: { node: leaderNode ?? '', address: leaderAddress ?? '' } }),
    ...(term === undefined ? {} : { term }),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    ...(minOffset === undefined ? {} : { minOffset }),
    ...(maxOffset === undefined ? {} : { maxOffset }),
  }
  const code = errorCodeOf(status.code)
  if (code !== undefined) return new LedgerError(code, status.message, facts)
  return new LedgerError('SYSTEM_ERROR', `unknown code ${status.code}: ${status.message} (${status.hint})`, facts)
}

export function writeStatus(to: FieldSink, status: WireStatus): void {
  to.uint(1, status.code)
  to.text(2, status.message)
  to.text(3, status.hint)
  if (status.leaderNode !== undefined) to.text(4, status.leaderNode, true)
  if (status.leaderAddress !== undefined) to.text(5, status.leaderAddress, true)
  if (status.term !== undefined) to.uint(6, status.term, true)
  if (status.retryAfterMs !== undefined) to.uint(7, status.retryAfterMs, true)
  if (status.minOffset !== undefined) to.uint(8, status.minOffset, true)
  if (status.maxOffset !== undefined) to.uint(9, status.maxOffset, true)
}

export function readStatus(reader: WireReader): WireStatus {
  const status: { -readonly [Key in keyof WireStatus]: WireStatus[Key] } = { code: 0, message: '', hint: '' }
  while (reader.next()) {
    if (reader.field === 1) status.code = reader.uint32()
    else if (reader.field === 2) status.message = reader.text()
    else if (reader.field === 3) status.hint = reader.text()
    else if (reader.field === 4) status.leaderNode = reader.text()
    else if (reader.field === 5) status.leaderAddress = reader.text()
    else if (reader.field === 6) status.term = reader.uint()
    else if (reader.field === 7) status.retryAfterMs = reader.uint32()
    else if (reader.field === 8) status.minOffset = reader.uint()
    else if (reader.field === 9) status.maxOffset = reader.uint()
    else reader.skip()
  }
  return status
}

export function encodeStatus(status: WireStatus): Buffer {
  return encodeMessage((to) => writeStatus(to, status))
}

export function decodeStatus(bytes: Buffer): WireStatus {
  return readStatus(new WireReader(bytes))
}
