/**
 * Compares what a producer was told with what a consumer reads: nothing lost, nothing doubled, no gap, every message
 * at the place that the acknowledgement named, every byte as it was sent. Pure; `drain.ts` does the reading.
 */
import type { Acknowledgement } from './load.ts'

export interface ReadMessage {
  /** Number from the message's property, NaN when it has none. */
  readonly sequence: number
  readonly group: string
  readonly queue: number
  readonly offset: number
  readonly body: Buffer
}

export interface CheckInput {
  readonly acknowledgements: readonly Acknowledgement[]
  readonly messages: readonly ReadMessage[]
  /** Messages handed to the producer: numbers 0 to sent - 1. */
  readonly sent: number
  readonly body: (sequence: number) => Buffer
}

export interface CheckResult {
  readonly acknowledged: number
  /** Acknowledged and not there, or not at the offset that the producer was told. */
  readonly lost: number
  /** Extra copies of a message. */
  readonly duplicated: number
  /** Breaks in the sequence 0, 1, 2, … of a queue's offsets. */
  readonly offsetGaps: number
  /** Messages whose bytes differ from what was sent, or that nobody sent. */
  readonly corrupted: number
  /** A few examples of what is wrong, for people. */
  readonly findings: readonly string[]
}

const findingsMax = 10

export function check(input: CheckInput): CheckResult {
  const findings: string[] = []
  const find = (text: string): void => {
    if (findings.length < findingsMax) findings.push(text)
  }
  const places = new Map<number, string>()
  const nextOffsets = new Map<string, number>()
  let duplicated = 0
  let offsetGaps = 0
  let corrupted = 0
  for (const message of input.messages) {
    const queue = `${message.group}/${message.queue}`
    const expected = nextOffsets.get(queue) ?? 0
    if (message.offset !== expected) {
      offsetGaps++
      find(`${queue}: offset ${message.offset} follows, ${expected} was expected`)
    }
    nextOffsets.set(queue, message.offset + 1)
    if (
      !(message.sequence >= 0 && message.sequence < input.sent) ||
      !input.body(message.sequence).equals(message.body)
    ) {
      corrupted++
      find(`${queue} offset ${message.offset}: not what was sent as message ${message.sequence}`)
      continue
    }
    const place = places.get(message.sequence)
    if (place !== undefined) {
      duplicated++
      find(`message ${message.sequence} is at ${place} and at ${queue} offset ${message.offset}`)
    } else {
      places.set(message.sequence, `${queue} offset ${message.offset}`)
    }
  }
  let lost = 0
  for (const { sequence, group, queue, offset } of input.acknowledgements) {
    const told = `${group}/${queue} offset ${offset}`
    const place = places.get(sequence)
    if (place === told) continue
    lost++
    find(`message ${sequence} was acknowledged at ${told}, it is ${place === undefined ? 'nowhere' : `at ${place}`}`)
  }
  return { acknowledged: input.acknowledgements.length, lost, duplicated, offsetGaps, corrupted, findings }
}
