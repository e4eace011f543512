/** What the batches of one producer are. All of one kind, so that half messages never share a batch with others. */
import { halfExtension } from '../../message/extensions.ts'
import { type BatchHeader, batchKinds } from '../../message/types.ts'

export type BatchForm = Pick<BatchHeader, 'kind' | 'extensions'>

export const normalForm: BatchForm = { kind: batchKinds.normal, extensions: [] }

/** Stored, and visible to nobody until the transaction of each message is committed. */
export function halfForm(producerGroup: string): BatchForm {
  return { kind: batchKinds.half, extensions: [halfExtension(producerGroup)] }
}
