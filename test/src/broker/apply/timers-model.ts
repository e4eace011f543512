/**
 * What a timer is, told naively: every one that was ever added, with the entries that added and removed it. For tests
 * that compare the state machine with it after operations by chance.
 */
import type { TimerPage } from '../../../../src/broker/apply/timer-rows.ts'
import type { TimerTarget } from '../../../../src/broker/apply/timers.ts'
import type { ApplyResult } from '../../../../src/broker/contract.ts'
import { dueTime } from '../../../../src/message/delay-levels.ts'
import { compareTimers, deliveryExtension, type TimerKey } from '../../../../src/message/extensions.ts'
import { batchKinds } from '../../../../src/message/types.ts'
import { type Bench, makeBatch } from './support.ts'

export interface ModelTimer {
  readonly key: TimerKey
  readonly target: TimerTarget
  /** Entries that hold its bytes, the newest last. */
  readonly places: { readonly index: number; readonly record: number }[]
  /** Entry that delivered or recalled it, or deleted its topic. */
  removedAt: number | null
  end: 'pending' | 'delivered' | 'recalled' | 'dropped'
}

export interface PreparedDelivery {
  readonly target: TimerTarget
  readonly sources: readonly TimerKey[]
  readonly body: Buffer
}

export class TimersModel {
  readonly bench: Bench
  readonly timers: ModelTimer[] = []
  readonly #topics = new Map<number, string>()
  #topicCount = 0

  constructor(bench: Bench) {
    this.bench = bench
  }

  get topicIds(): readonly number[] {
    return [...this.#topics.keys()]
  }

  createTopic(queues: number): number {
    const name = `t${this.#topicCount++}`
    const topicId = this.bench.topic(name, queues)
    this.#topics.set(topicId, name)
    return topicId
  }

  deleteTopic(topicId: number): void {
    this.bench.command({ kind: 'delete_topic', topic: this.nameOf(topicId), topicId })
    this.#topics.delete(topicId)
    for (const timer of this.timers)
      if (timer.target.topicId === topicId && timer.end === 'pending') this.#remove(timer, 'dropped')
  }

  nameOf(topicId: number): string {
    return this.#topics.get(topicId) ?? 'gone'
  }

  /** One batch of delayed messages. */
  add(target: TimerTarget, times: readonly number[]): ApplyResult {
    const { bench } = this
    const { topicId, queue } = target
    const result = bench.send({ topic: this.nameOf(topicId), queue, kind: batchKinds.delayed, times })
    if (result.kind !== 'pending') return result
    for (const [record, time] of times.entries()) {
      const key = { time: dueTime(time, bench.time), index: result.index, record }
      this.timers.push({ key, target, places: [{ index: key.index, record }], removedAt: null, end: 'pending' })
    }
    return result
  }

  find(key: TimerKey): ModelTimer {
    const found = this.timers.find((timer) => compareTimers(timer.key, key) === 0)
    if (!found) throw new Error(`no such timer: ${JSON.stringify(key)}`)
    return found
  }

  /** As an honest leader makes it now: the first `count` timers of one queue. Null when there are none in the page. */
  prepare(
    page: TimerPage,
    target: TimerTarget,
    count: number,
    isRead: (key: TimerKey) => boolean = () => true,
  ): PreparedDelivery | null {
    const { timers } = this.bench.machine
    const own = page.rows.filter(({ place }) => place.topicId === target.topicId && place.queue === target.queue)
    const keys = own.map(({ key }) => key).slice(0, count)
    const sources = keys.filter(isRead)
    const last = sources.at(-1)
    const left = keys.filter(
      (key) => !isRead(key) && last && compareTimers(key, last) < 0 && !timers.isLeft(target, key),
    )
    if (sources.length === 0 || !this.#topics.has(target.topicId)) return null
    const { topicId, queue } = target
    const delivery = { kind: 'timers', topicId, after: timers.takenAt(target), asOf: page.asOf, left, sources } as const
    const body = makeBatch({
      topic: this.nameOf(topicId),
      queue,
      kind: batchKinds.internal,
      records: sources.length,
      extensions: [deliveryExtension(delivery)],
    })
    return { target, sources, body }
  }

  /** Throws when it delivers what was delivered or recalled before, or too early. */
  deliver({ sources, body }: PreparedDelivery): ApplyResult {
    const result = this.bench.feed(1, body)
    if (result.kind !== 'stored') return result
    for (const key of sources) {
      const timer = this.find(key)
      if (timer.end !== 'pending') throw new Error(`delivered although ${timer.end}: ${JSON.stringify(key)}`)
      if (key.time > this.bench.time) throw new Error(`delivered too early: ${JSON.stringify(key)}`)
      this.#remove(timer, 'delivered')
    }
    return result
  }

  /** Whether it did what it should. */
  recall(timer: ModelTimer): boolean {
    const { key, target } = timer
    const result = this.bench.command({ kind: 'recall_timer', ...target, timer: key })
    const done = result.kind === 'recalled' && result.done
    const isRight = done === (timer.end === 'pending')
    if (done) this.#remove(timer, 'recalled')
    return isRight
  }

  /** Timers of one queue, stored again. */
  carry(target: TimerTarget, sources: readonly TimerKey[]): void {
    const { topicId, queue } = target
    const delivery = { kind: 'carried_timers', topicId, sources } as const
    const topic = this.nameOf(topicId)
    const extensions = [deliveryExtension(delivery)]
    const records = sources.length
    const result = this.bench.send({ topic, queue, kind: batchKinds.internal, records, extensions })
    if (result.kind !== 'carried') throw new Error(JSON.stringify(result))
    for (const [record, key] of sources.entries()) {
      const timer = this.find(key)
      if (timer.end === 'pending') timer.places.push({ index: this.bench.log.length, record })
    }
  }

  /** The page that a complete view as of this entry would be; garbage of deleted topics is left out. */
  viewAsOf(asOf: number, untilMs: number): readonly { readonly key: TimerKey; readonly index: number }[] {
    return this.timers
      .filter(({ key, removedAt, end }) => key.index <= asOf && end !== 'dropped' && (removedAt ?? asOf + 1) > asOf)
      .filter(({ key }) => key.time <= untilMs)
      .sort((a, b) => compareTimers(a.key, b.key))
      .map(({ key, places }) => ({
        key,
        index: Math.max(...places.map(({ index }) => index).filter((i) => i <= asOf)),
      }))
  }

  /** Rows of a page as `viewAsOf` shows them. */
  rowsOf(page: TimerPage): readonly { readonly key: TimerKey; readonly index: number }[] {
    return page.rows
      .filter(({ key }) => this.find(key).end !== 'dropped')
      .map(({ key, place }) => ({ key, index: place.index }))
  }

  pending(): readonly ModelTimer[] {
    return this.timers.filter(({ end }) => end === 'pending')
  }

  #remove(timer: ModelTimer, end: ModelTimer['end']): void {
    timer.end = end
    timer.removedAt = this.bench.log.length
  }
}
