/** Which consumer group an entry concerns beyond topics as such. Pure but for reading the state; for the coordinator. */
import { frameTypes } from '../../../store/index.ts'
import { retryPrefix } from '../../message/system-topics.ts'
import { decodeCommand } from '../apply/command.ts'
import type { ApplyResult, CommittedEntry, StateMachineApi } from '../contract.ts'

/** The group for which this entry made the retry topic, or whose settings it changed; null for any other entry. */
export function changedGroup(entry: CommittedEntry, result: ApplyResult, machine: StateMachineApi): string | null {
  if (result.kind === 'none' && entry.type === frameTypes.command) {
    const command = decodeCommand(entry.body)
    return command.kind === 'set_group' ? command.group : null
  }
  // The id of a topic is the index of the entry that made it.
  if ((result.kind !== 'pending' && result.kind !== 'stored') || result.topicId !== entry.index) return null
  const topic = machine.topicById(result.topicId)?.config.topic
  return topic?.startsWith(retryPrefix) ? topic.slice(retryPrefix.length) : null
}
