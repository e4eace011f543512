/**
 * Stores open half messages once more, behind the part of the log that is about to be given up: nothing pins the log.
 * Called by the leader's retention before it proposes a trim, which apply refuses while one is left.
 */
import { LedgerError } from '../../common/errors.ts'
import type { Logger } from '../../common/logger.ts'
import type { Half } from '../apply/halves.ts'
import type { ProposeOptions, ReplicaApi } from '../contract.ts'
import { carriedBatchOf } from './commit-batch.ts'
import { byStoredBatch } from './due-checks.ts'
import { readHalfBatch } from './read-half.ts'

const proposeTimeoutMs = 10_000

export interface CarryPorts extends Pick<ReplicaApi, 'log' | 'machine'> {
  readonly logger: Logger
  leading(): boolean
  /** Proposes a batch that makes space: taken on a full disk, too. */
  store(batch: readonly Uint8Array[], options: ProposeOptions): Promise<unknown>
}

/** Rejects as `propose` does, and with StoreErrors: the next round tries again. */
export async function carryHalves(ports: CarryPorts, firstIndex: number): Promise<void> {
  const old = [...ports.machine.halves.pending()].filter(({ atIndex }) => atIndex < firstIndex)
  for (const halves of byStoredBatch(old)) {
    const stored = await readHalfBatch(ports, halves[0])
    if (!ports.leading()) return
    if (stored) await carry(ports, stored, halves)
  }
}

async function carry(ports: CarryPorts, stored: Buffer, halves: readonly Half[]): Promise<void> {
  const batch = tryBatch(stored, halves)
  if (!(batch instanceof LedgerError)) {
    await ports.store([batch], { timeoutMs: proposeTimeoutMs })
    return
  }
  const [first] = halves
  if (halves.length === 1 && first) {
    // Bytes that cannot be unpacked: nobody can commit it, and its checks come to an end.
    ports.logger.warn('a half message cannot be carried', { index: first.atIndex, error: batch.message })
    return
  }
  // The names of the sources take more room than what they replace: a batch of the largest size becomes two.
  const middle = Math.ceil(halves.length / 2)
  await carry(ports, stored, halves.slice(0, middle))
  await carry(ports, stored, halves.slice(middle))
}

function tryBatch(stored: Buffer, halves: readonly Half[]): Buffer | LedgerError {
  try {
    return carriedBatchOf(stored, halves)
  } catch (error) {
    if (error instanceof LedgerError) return error
    throw error
  }
}
