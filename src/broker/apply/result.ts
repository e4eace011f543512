/** Results of applying an entry: how they are made and how they enter the running hash. Used by everything here. */
import { unreachable } from '../../common/assert.ts'
import { type ErrorCode, errorTable } from '../../common/errors.ts'
import type { ApplyResult } from '../contract.ts'
import { encodeMembership } from '../membership/codec.ts'
import type { RunningHash } from './hash.ts'

export type Refusal = Extract<ApplyResult, { readonly kind: 'refused' }>

export const nothing: ApplyResult = { kind: 'none' }

export function refusal(code: ErrorCode, message: string): Refusal {
  return { kind: 'refused', code, message }
}

/** What a result says enters the hash (B1); texts for people do not, they may be reworded. */
export function hashResult(hash: RunningHash, result: ApplyResult): void {
  switch (result.kind) {
    case 'none':
      hash.add(0)
      break
    case 'stored':
      hash.add(result.duplicate ? 2 : 1)
      hash.add(result.topicId)
      hash.add(result.queue)
      hash.add(result.baseOffset)
      hash.add(result.recordCount)
      hash.add(result.index)
      break
    case 'topic':
      hash.add(3)
      hash.addText(result.topic.config.topic)
      hash.add(result.topic.config.readQueues)
      hash.add(result.topic.config.writeQueues)
      hash.add(result.topic.config.permission)
      hash.add(result.topic.topicId)
      break
    case 'topic_deleted':
      hash.add(4)
      hash.add(result.topicId)
      break
    case 'offsets':
      hash.add(5)
      for (const offset of result.offsets) hash.add(offset)
      break
    case 'generation':
      hash.add(6)
      hash.add(result.generation)
      break
    case 'membership':
      hash.add(8)
      for (const byte of encodeMembership(result.membership)) hash.add(byte)
      break
    case 'trimmed':
      hash.add(9)
      hash.add(result.firstIndex)
      hash.add(result.moved)
      break
    case 'refused':
      hash.add(7)
      hash.add(errorTable[result.code].number)
      break
    default:
      unreachable(result)
  }
}
