/**
 * The running hash over everything applied: two nodes with equal logs must show equal hashes (B1).
 *
 * Fed by the state machine once per entry; kept as two 32-bit halves because BigInt would cost more than apply does.
 * The mixing is part of the state format: changing it makes replicas of different builds disagree.
 */
import { invariant } from '../../common/assert.ts'

const twoTo32 = 0x1_0000_0000

export class RunningHash {
  #high: number
  #low: number

  /** `hex`: 16 digits to go on from. */
  constructor(hex: string) {
    invariant(/^[0-9a-f]{16}$/.test(hex), `B1: not a running hash: ${hex}`)
    this.#high = Number.parseInt(hex.slice(0, 8), 16) | 0
    this.#low = Number.parseInt(hex.slice(8), 16) | 0
  }

  get hex(): string {
    return hexWord(this.#high) + hexWord(this.#low)
  }

  /** Adds a non-negative integer up to 2^53. */
  add(value: number): void {
    this.#mix(value / twoTo32)
    this.#mix(value)
  }

  addText(text: string): void {
    this.add(text.length)
    for (let at = 0; at < text.length; at++) this.#mix(text.charCodeAt(at))
  }

  /** Every step is reversible for a given word, so different states never fall together by mixing alone. */
  #mix(word: number): void {
    let low = Math.imul(this.#low ^ (word | 0), 0x9e3779b1)
    low ^= low >>> 15
    let high = Math.imul(this.#high ^ low, 0x85ebca6b)
    high ^= high >>> 13
    this.#high = high
    this.#low = (low + high) | 0
  }
}

function hexWord(word: number): string {
  return (word >>> 0).toString(16).padStart(8, '0')
}
