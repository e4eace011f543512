/**
 * The commands that give up the log before an index. Made by the leader, which can look into its state store; apply,
 * which cannot, is told where each queue begins afterwards.
 *
 * Must name every queue that has a message before the index: a queue that was forgotten would point at entries that
 * are gone.
 */
import type { Trim } from '../apply/command.ts'
import type { StateMachineApi } from '../contract.ts'

/** Bounds one entry to some 100 KiB. */
export const queuesPerTrimMax = 4096

/** The last command is the one that gives up the log; those before it, if there are any, only move minimums. */
export async function planTrim(
  machine: Pick<StateMachineApi, 'topics' | 'queueRange' | 'offsetByIndex'>,
  firstIndex: number,
): Promise<readonly Trim[]> {
  const commands: Trim[] = []
  let queues: Trim['queues'][number][] = []
  for (const { topicId } of machine.topics()) {
    for (let queue = 0; ; queue++) {
      const range = machine.queueRange(topicId, queue)
      if (!range) break
      if (range.min === range.max) continue
      const minOffset = await machine.offsetByIndex(topicId, queue, firstIndex)
      if (minOffset <= range.min) continue
      queues.push({ topicId, queue, minOffset })
      if (queues.length < queuesPerTrimMax) continue
      commands.push({ kind: 'trim', firstIndex: 0, queues })
      queues = []
    }
  }
  commands.push({ kind: 'trim', firstIndex, queues })
  return commands
}
