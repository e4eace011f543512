/** Reads the stored batch of half messages from the CommitLog. Used by the leader for commits, questions and carrying. */
import { frameBody, frameTypes, StoreError } from '../../../store/index.ts'
import { invariant } from '../../common/assert.ts'
import { LedgerError } from '../../common/errors.ts'
import type { Half } from '../apply/halves.ts'
import type { ReplicaApi } from '../contract.ts'

/**
 * Null when the bytes lie elsewhere by now, or the transaction was resolved: look again. Throws StoreErrors, ROTTEN
 * among them, and DATA_LOSS where the log was copied from behind entries that nobody has.
 */
export async function readHalfBatch(
  { log, machine }: Pick<ReplicaApi, 'log' | 'machine'>,
  half: Half,
): Promise<Buffer | null> {
  try {
    const frame = log.cachedAt(half.atPosition) ?? (await log.readAt(half.atPosition))
    invariant(frame.header.index === half.atIndex, 'B2: a half message points at its own entry')
    invariant(frame.header.type === frameTypes.batch, 'B2: a half message points at a batch')
    return frameBody(frame)
  } catch (error) {
    if (!(error instanceof StoreError)) throw error
    // Carried while it was read, and the log was given up behind it.
    if (machine.halves.find(half)?.atIndex !== half.atIndex) return null
    if (error.code !== 'OUT_OF_RANGE' || half.atPosition >= log.origin.position) throw error
    const text = `the log of this replica begins behind entry ${log.origin.index}, without ${half.atIndex}`
    throw new LedgerError('DATA_LOSS', text, {}, { cause: error })
  }
}
