/**
 * The members of one consumer group as the leader hears them: who is there, what they subscribe to, who fell silent.
 * Memory of the coordinator only; what the group has agreed on lies in the log (`assign_group`). Time is passed in.
 */
import { LedgerError } from '../../common/errors.ts'

export const membersPerGroupMax = 1000

export interface Member {
  /** Sorted, without repeats. */
  readonly topics: readonly string[]
  readonly sessionTimeoutMs: number
  heardMs: number
}

export class Membership {
  readonly group: string
  readonly #members = new Map<string, Member>()

  constructor(group: string) {
    this.group = group
  }

  get count(): number {
    return this.#members.size
  }

  get names(): readonly string[] {
    return [...this.#members.keys()].sort()
  }

  /** What the members subscribe to; all to the same. */
  get topics(): readonly string[] {
    for (const member of this.#members.values()) return member.topics
    return []
  }

  /**
   * Takes a heartbeat and says whether it changes who is there or what they subscribe to. Throws INVALID_PARAMETER for a
   * subscription other than the group's (RocketMQ leaves such groups losing messages), FLOW_CONTROL for a full group.
   */
  hear(name: string, heard: Omit<Member, 'heardMs'>, nowMs: number): 'joined' | 'changed' | 'known' {
    const before = this.#members.get(name)
    const others = this.#members.size - (before ? 1 : 0)
    if (others > 0 && !sameTopics(heard.topics, this.#topicsOfOthers(name)))
      throw new LedgerError(
        'INVALID_PARAMETER',
        `member ${name} subscribes to [${heard.topics.join(', ')}], but the other members of group ${this.group} subscribe to [${this.#topicsOfOthers(name).join(', ')}]; all members of a group must subscribe to the same topics`,
      )
    if (!before && this.#members.size >= membersPerGroupMax)
      throw new LedgerError('FLOW_CONTROL', `group ${this.group} has ${membersPerGroupMax} members, the limit`, {
        retryAfterMs: 10_000,
      })
    this.#members.set(name, { ...heard, heardMs: nowMs })
    if (!before) return 'joined'
    return sameTopics(before.topics, heard.topics) ? 'known' : 'changed'
  }

  /** Takes a member over from the log without judging it. */
  adopt(name: string, member: Member): void {
    this.#members.set(name, member)
  }

  /** True when it was there. */
  remove(name: string): boolean {
    return this.#members.delete(name)
  }

  /** Removes and names those whose session has run out. */
  expire(nowMs: number): readonly string[] {
    const silent = [...this.#members].filter(([, member]) => nowMs - member.heardMs > member.sessionTimeoutMs)
    for (const [name] of silent) this.#members.delete(name)
    return silent.map(([name]) => name)
  }

  /** The listener slept for this long: nobody's silence in that time counts. */
  forgive(ms: number): void {
    for (const member of this.#members.values()) member.heardMs += ms
  }

  #topicsOfOthers(name: string): readonly string[] {
    for (const [other, member] of this.#members) if (other !== name) return member.topics
    return []
  }
}

export function sameTopics(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((topic, index) => topic === b[index])
}
