/** What a push consumer keeps for each broker group that has a subscribed topic. Changed by its parts. */
import type { Assignment, GroupMember } from './group-member.ts'

export interface BrokerGroupState {
  readonly name: string
  readonly member: GroupMember
  /** Of the broker group: another one after a recovery by force. */
  incarnation: string
  /** What was consumed belongs to it, and is committed in it. */
  generation: number
  wanted: Assignment | null
  applying: boolean
  committing: Promise<void> | null
}
