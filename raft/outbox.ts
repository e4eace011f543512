/**
 * What the core has to say since the last Ready: messages, events, read states.
 *
 * Used by every role; emptied by `core.ts` when a Ready is taken. Decides nothing, except that acknowledgements are
 * forgotten when they were made in a term that ended before they left.
 */
import type { PeerMessage } from './messages.ts'
import type { RaftEvent, ReadState, Ready } from './ready.ts'

export interface Outgoing {
  readonly sendNow: readonly PeerMessage[]
  readonly sendAfterPersist: readonly PeerMessage[]
  readonly catchUp?: NonNullable<Ready['catchUp']>
  readonly readStates: readonly ReadState[]
  readonly events: readonly RaftEvent[]
}

export class Outbox {
  #sendNow: PeerMessage[] = []
  #sendAfterPersist: PeerMessage[] = []
  #readStates: ReadState[] = []
  #events: RaftEvent[] = []
  #catchUp: NonNullable<Ready['catchUp']> | null = null

  sendNow(message: PeerMessage): void {
    this.#sendNow.push(message)
  }

  sendAfterPersist(message: PeerMessage): void {
    this.#sendAfterPersist.push(message)
  }

  answerReads(states: readonly ReadState[]): void {
    for (const state of states) this.#readStates.push(state)
  }

  /** Of several requests of one Ready the newest counts. */
  catchUp(request: NonNullable<Ready['catchUp']>): void {
    this.#catchUp = request
  }

  emit(event: RaftEvent): void {
    this.#events.push(event)
  }

  isEmpty(): boolean {
    return (
      this.#sendNow.length === 0 &&
      this.#sendAfterPersist.length === 0 &&
      this.#readStates.length === 0 &&
      this.#events.length === 0 &&
      this.#catchUp === null
    )
  }

  /** The term moved on: what was acknowledged in the old one may be cut by the same Ready that would carry it. */
  forgetAcknowledgements(): void {
    this.#sendAfterPersist = this.#sendAfterPersist.filter((message) => message.kind !== 'append_response')
  }

  /** Nothing may be promised any more (failed disk). */
  forgetMessages(): void {
    this.#sendNow = []
    this.#sendAfterPersist = []
    this.#catchUp = null
  }

  take(): Outgoing {
    const outgoing = {
      sendNow: this.#sendNow,
      ...(this.#catchUp === null ? {} : { catchUp: this.#catchUp }),
      sendAfterPersist: this.#sendAfterPersist,
      readStates: this.#readStates,
      events: this.#events,
    }
    this.#sendNow = []
    this.#catchUp = null
    this.#sendAfterPersist = []
    this.#readStates = []
    this.#events = []
    return outgoing
  }
}
