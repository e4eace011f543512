/**
 * What consumption message by message means, as simply as it can be said: a state per message and group, no cursor, no
 * rows. The tests compare the state machine with it after every operation.
 */
import type { Receive, SettledMessage } from '../../../../src/broker/apply/receive-commands.ts'
import type { ReceivedMessage } from '../../../../src/broker/apply/received.ts'

/** Null: consumed, or skipped. Undefined (beyond the end of the list): nobody of the group has seen it. */
type MessageState = Omit<ReceivedMessage, 'offset'> | null

export class ModelQueue {
  /** By offset; what comes behind was never given out. */
  states: MessageState[] = []
  committed: number | undefined
  /** A receive or seek made it known to the group. */
  known = false

  get cursor(): number {
    return this.states.length
  }

  get floor(): number {
    const held = this.states.findIndex((state) => state !== null)
    return held < 0 ? this.states.length : held
  }

  held(): readonly ReceivedMessage[] {
    return this.states.flatMap((state, offset) => (state ? [{ ...state, offset }] : []))
  }

  mayReceive(command: Receive, at: { readonly start: number; readonly max: number; readonly time: number }): boolean {
    const cursor = this.known ? this.cursor : at.start
    const { first, again, waiting } = command
    const given = [...again, ...first.map(({ offset }) => offset)]
    if (command.cursor < cursor || command.cursor > at.max || new Set(given).size < given.length) return false
    const unseen = [...first, ...waiting].map(({ offset }) => offset)
    if (unseen.some((offset) => offset < cursor || offset >= command.cursor)) return false
    if (new Set(unseen).size < unseen.length) return false
    if (
      again.some(
        (offset) => !this.states[offset] || this.held().find((one) => one.offset === offset)!.visibleAt > at.time,
      )
    )
      return false
    const hashOf = (offset: number): number =>
      first.find((one) => one.offset === offset)?.orderHash ?? this.states[offset]?.orderHash ?? 0
    const passed = waiting.map((message) => ({ ...message, visibleAt: 0 }))
    const others = [...this.held(), ...passed].filter(
      ({ offset, orderHash }) => orderHash !== 0 && !given.includes(offset),
    )
    const waits = (offset: number): boolean =>
      others.some((other) => other.orderHash === hashOf(offset) && (other.offset < offset || other.visibleAt > at.time))
    return !command.ordered || !given.some(waits)
  }

  receive(command: Receive, start: number, entry: { readonly index: number; readonly time: number }): void {
    if (!this.known) this.skipTo(start)
    this.known = true
    this.skipTo(command.cursor)
    const give = (offset: number, orderHash: number): void => {
      const attempt = (this.states[offset]?.attempt ?? 0) + 1
      const visibleAt = entry.time + command.invisibleMs
      this.states[offset] = { attempt, receipt: entry.index, visibleAt, orderHash }
    }
    for (const offset of command.again) give(offset, this.states[offset]!.orderHash)
    for (const { offset, orderHash } of command.first) give(offset, orderHash)
    for (const { offset, orderHash } of command.waiting)
      this.states[offset] = { attempt: 0, receipt: entry.index, visibleAt: entry.time, orderHash }
    this.commitFloor()
  }

  settle(message: SettledMessage, entry: { readonly index: number; readonly time: number }): boolean {
    const state = this.states[message.offset]
    if (!state || state.receipt !== message.receipt || state.attempt === 0) return false
    const visibleAt = entry.time + (message.invisibleMs ?? 0)
    this.states[message.offset] = message.invisibleMs === null ? null : { ...state, receipt: entry.index, visibleAt }
    this.commitFloor()
    return true
  }

  /** Everything before it is consumed, as a commit or a trim says. */
  skipTo(offset: number): void {
    for (let at = 0; at < offset; at++) if (at >= this.states.length) this.states.push(null)
  }

  consumeTo(offset: number): void {
    this.skipTo(offset)
    for (let at = 0; at < offset; at++) this.states[at] = null
  }

  seek(offset: number): void {
    this.committed = offset
    if (this.known) this.states = new Array<MessageState>(offset).fill(null)
  }

  forget(): void {
    this.states = []
    this.known = false
  }

  commitFloor(): void {
    if (this.known) this.committed = Math.max(this.committed ?? 0, this.floor)
  }
}
