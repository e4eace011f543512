/** Proposals of the receive engine: what apply refuses is an answer here, to be looked at. */
import { frameTypes } from '../../../store/index.ts'
import { type Command, encodeCommand } from '../apply/command.ts'
import type { ApplyResult, ReplicaApi } from '../contract.ts'
import { failureOf } from '../handler/failure.ts'

/** Longest wait for one of them. */
const proposeMsMax = 10_000

/** Throws as `ReplicaApi.propose` does. */
export function proposeCommand(replica: ReplicaApi, command: Command, timeoutMs: number): Promise<ApplyResult> {
  return proposeEntry(replica, frameTypes.command, encodeCommand(command), timeoutMs)
}

export async function proposeEntry(
  replica: ReplicaApi,
  type: typeof frameTypes.command | typeof frameTypes.batch,
  body: Buffer,
  timeoutMs: number,
): Promise<ApplyResult> {
  try {
    // Without the signal of the caller: while an entry is under way, what it takes is nobody else's to take.
    const { result } = await replica.propose(type, [body], { timeoutMs: Math.min(timeoutMs, proposeMsMax) })
    return result
  } catch (error) {
    throw failureOf(error)
  }
}
