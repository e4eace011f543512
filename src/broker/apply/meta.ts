/**
 * The one row about the state as a whole. Written with every StateBatch, so that log time and versions move together
 * with what they describe (S4).
 */
import type { StateOperation, StateStoreApi } from '../../../store/index.ts'
import { invariant } from '../../common/assert.ts'
import { metaKey } from './keys.ts'
import { ProtobufReader, ProtobufWriter } from './protobuf.ts'

/** Rises with every change of keys, rows, or of what applying an entry does. */
export const stateFormatVersion: number = 3

export interface Meta {
  readonly appliedIndex: number
  readonly appliedTime: number
  readonly topicsVersion: number
}

/** The rows were written by a build with another state format: have the state store rebuilt, or use that build. */
export class StateFormatError extends Error {
  override readonly name = 'StateFormatError'
}

export function encodeMeta(meta: Meta): StateOperation {
  const writer = new ProtobufWriter()
  writer.uint(1, stateFormatVersion)
  writer.uint(2, meta.appliedIndex)
  writer.uint(3, meta.appliedTime)
  writer.uint(4, meta.topicsVersion)
  return { kind: 'put', key: metaKey, value: writer.finish() }
}

export async function loadMeta(store: StateStoreApi): Promise<Meta> {
  const row = await store.get(metaKey)
  const meta = row ? decodeMeta(row) : { appliedIndex: 0, appliedTime: 0, topicsVersion: 0 }
  invariant(meta.appliedIndex === store.appliedIndex, 'S4: state and applied index were written together')
  return meta
}

export function decodeMeta(row: Buffer): Meta {
  const reader = new ProtobufReader(row)
  const version = reader.next() === 1 ? reader.uint() : 0
  if (version !== stateFormatVersion) throw new StateFormatError(`state format ${version} is not known to this build`)
  let appliedIndex = 0
  let appliedTime = 0
  let topicsVersion = 0
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 2) appliedIndex = reader.uint()
    else if (field === 3) appliedTime = reader.uint()
    else if (field === 4) topicsVersion = reader.uint()
    else reader.unknown()
  }
  return { appliedIndex, appliedTime, topicsVersion }
}
