/**
 * The network of a scenario: messages lie on their link until a command delivers, drops, holds or repeats them.
 *
 * Used by `world.ts` and `commands.ts`. Never loses or reorders anything by itself.
 */
import type { NodeId, PeerMessage } from '../../raft/index.ts'
import { messageText } from './notation.ts'

/** `n1->n2`, with `*` for anyone, and a kind of message or null for all. */
export interface Pattern {
  readonly from: string
  readonly to: string
  readonly kind: string | null
}

export const everything: Pattern = { from: '*', to: '*', kind: null }

export class Wire {
  #messages: PeerMessage[] = []
  #held: PeerMessage[] = []
  /** Links on which messages are held as they come. */
  #holds: Pattern[] = []
  /** Nodes that can only talk among themselves; others likewise. Null: all can talk. */
  #island: ReadonlySet<NodeId> | null = null

  /** What can be delivered, oldest first. */
  get messages(): readonly PeerMessage[] {
    return this.#messages
  }

  send(message: PeerMessage): void {
    if (this.#isCut(message)) return
    const isHeld = this.#holds.some((pattern) => matches(pattern, message))
    if (isHeld) this.#held.push(message)
    else this.#messages.push(message)
  }

  /** Takes matching messages off their links, oldest first. */
  take(pattern: Pattern, countMax = Number.POSITIVE_INFINITY): PeerMessage[] {
    const taken: PeerMessage[] = []
    this.#messages = this.#messages.filter((message) => {
      if (taken.length >= countMax || !matches(pattern, message)) return true
      taken.push(message)
      return false
    })
    return taken
  }

  /** A second copy of the oldest matching message, behind everything else. */
  duplicate(pattern: Pattern): void {
    const message = this.#messages.find((one) => matches(pattern, one))
    if (message === undefined) throw new Error('there is no such message on the wire')
    this.#messages.push(message)
  }

  hold(pattern: Pattern): void {
    this.#holds.push(pattern)
    this.#held.push(...this.take(pattern))
  }

  /** Ends the hold of exactly this pattern; what no other one holds comes back, behind what is there. */
  release({ from, to, kind }: Pattern): void {
    this.#holds = this.#holds.filter((hold) => hold.from !== from || hold.to !== to || hold.kind !== kind)
    const held = this.#held
    this.#held = []
    for (const message of held) this.send(message)
  }

  /** The named nodes cannot talk to the others; what is on its way between them is lost. */
  cut(island: readonly NodeId[]): void {
    this.#island = new Set(island)
    this.#messages = this.#messages.filter((message) => !this.#isCut(message))
    this.#held = this.#held.filter((message) => !this.#isCut(message))
  }

  heal(): void {
    this.#island = null
  }

  /** On the link or held there, with a text that contains `text`. */
  carries(pattern: Pattern, text: string): boolean {
    const all = [...this.#messages, ...this.#held]
    return all.some((message) => matches(pattern, message) && messageText(message).includes(text))
  }

  #isCut({ from, to }: PeerMessage): boolean {
    return this.#island !== null && this.#island.has(from) !== this.#island.has(to)
  }
}

export function matches({ from, to, kind }: Pattern, message: PeerMessage): boolean {
  const isLink = (from === '*' || from === message.from) && (to === '*' || to === message.to)
  return isLink && (kind === null || kind === message.kind)
}
