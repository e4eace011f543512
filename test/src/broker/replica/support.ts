/** What the tests of a broker group share: entries to propose, segment bytes to compare. */
import { encodeCommand } from '../../../../src/broker/apply/command.ts'
import type { Applied } from '../../../../src/broker/contract.ts'
import type { Replica } from '../../../../src/broker/replica/replica.ts'
import { LedgerError } from '../../../../src/common/errors.ts'
import { frameTypes, loseAllUnsynced, loseAllUnsyncedBatches, type MemoryDisk } from '../../../../store/index.ts'

/** Proposes a topic: an entry with a result that every replica must agree on. */
export function createTopic(
  replica: Replica,
  topic: string,
  options: { timeoutMs?: number; signal?: AbortSignal } = {},
): Promise<Applied> {
  const config = { topic, readQueues: 4, writeQueues: 4, permission: 6 }
  const body = encodeCommand({ kind: 'create_topic', config })
  return replica.propose(frameTypes.command, [body], { timeoutMs: 60_000, ...options })
}

/** The code of the LedgerError that the promise rejects with. */
export async function codeOf(promise: Promise<unknown>): Promise<string> {
  const error = await errorOf(promise)
  return error.code
}

export async function errorOf(promise: Promise<unknown>): Promise<LedgerError> {
  try {
    await promise
  } catch (error) {
    if (error instanceof LedgerError) return error
    throw error
  }
  throw new Error('it was fulfilled')
}

/** All frames of a node's log, one behind the other, without the node-local segment headers. */
export function logBytes(disk: MemoryDisk, node: string, length: number): Buffer {
  const prefix = `data/${node}/log/`
  const segments = disk.paths().filter((path) => path.includes(prefix))
  const frames = Buffer.concat(segments.map((path) => disk.contentOf(path).subarray(4096)))
  return frames.subarray(0, length)
}

export const losePower = { disk: loseAllUnsynced, engine: loseAllUnsyncedBatches } as const
