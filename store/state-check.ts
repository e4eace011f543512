/**
 * Whether the content of a state database can be believed. Used by `state-store.ts` at open; reads, never writes.
 *
 * Everything up to the checkpoint was durable. Behind it, LevelDB may have lost any batches in a power loss without
 * saying so; the chain of markers tells. Only a cut at the end is fine.
 */
import type { KeyValue } from './key-value.ts'
import { decodeMarker, followChain, type Marker, markerKey, markerKeyEnd } from './marker-chain.ts'
import { firstUserKey, userKeyEnd } from './user-keys.ts'

const markersPerRead = 1000

type Rows = Pick<KeyValue, 'get' | 'range'>
type Finding = { readonly last: Marker } | { readonly problem: string }

interface CheckOptions {
  /** Last marker that is known to be durable; of index 0 when there is none. */
  readonly base: Marker
  /** Only the end of the chain is looked at. */
  readonly trusted: boolean
  readonly schema: number
}

/** The last marker that can be believed, or why nothing can. */
export async function checkContent(keyValue: Rows, options: CheckOptions): Promise<Finding> {
  const { base, trusted, schema } = options
  const found = trusted ? await findEnd(keyValue, base) : await walkChain(keyValue, base)
  if ('problem' in found) return found
  if (found.last.to > 0 && found.last.schema !== schema) {
    return { problem: `rows have layout ${found.last.schema}, this build writes ${schema}` }
  }
  if (found.last.to > 0) return found
  // An install that was cut short leaves such rows; normally the checkpoint file tells, but it may be lost.
  const rows = await keyValue.range({ from: firstUserKey, to: userKeyEnd, limit: 1 })
  return rows.length === 0 ? { last: { ...base, schema } } : { problem: 'there are rows, but no marker' }
}

async function findEnd(keyValue: Rows, base: Marker): Promise<Finding> {
  const range = { from: markerKey(0), to: markerKeyEnd, limit: 1, reverse: true }
  const row = (await keyValue.range(range))[0]
  if (!row) return base.to === 0 ? { last: base } : { problem: missingCheckpoint(base) }
  const last = decodeMarker(row[1])
  if (!last || !markerKey(last.to).equals(row[0])) return { problem: 'the last marker is damaged' }
  return last.to >= base.to ? { last } : { problem: missingCheckpoint(base) }
}

async function walkChain(keyValue: Rows, base: Marker): Promise<Finding> {
  const missing = await checkBase(keyValue, base)
  if (missing) return { problem: missing }
  let last = base
  for (;;) {
    const range = { from: markerKey(last.to + 1), to: markerKeyEnd, limit: markersPerRead }
    const rows = await keyValue.range(range)
    const found = followChain(last, rows)
    if ('problem' in found || rows.length < markersPerRead) return found
    last = found.last
  }
}

async function checkBase(keyValue: Rows, base: Marker): Promise<string | null> {
  if (base.to === 0) return null
  const value = await keyValue.get(markerKey(base.to))
  const marker = value && decodeMarker(value)
  return marker?.checksum === base.checksum ? null : missingCheckpoint(base)
}

function missingCheckpoint(base: Marker): string {
  return `the database does not hold its checkpoint ${base.to}`
}
