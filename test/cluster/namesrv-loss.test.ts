import { expect, test } from 'vitest'
import { type ClusterPlan, namesrvAddresses } from '../../src/cli/fast-try/layout.ts'
import type { Session } from '../../src/cli/fast-try/session.ts'
import { connect, type PullConsumer } from '../../src/client/mod.ts'
import { sleep, systemClock } from '../../src/common/clock.ts'
import { errorTable } from '../../src/common/errors.ts'
import { namesrvMethods, type RegistrationAck, type RouteReply } from '../../src/rpc/methods.ts'
import type { Channel } from '../../src/rpc/transport.ts'
import { withPlan } from './planned.ts'
import { channelTo, kill, leaderName, nodeNames, patienceMs, settles, start, startLoad, until } from './support.ts'

const topic = 'NoNamesrv'
const queues = 8
/** The longest there is: whoever is complete sooner was not told by the clock. */
const registerIntervalMs = 60_000
const registerIntervalMsMin = 1_000
const stepMessages = 400
const routeTimeoutMs = 5_000
const askPauseMs = 10
/** Enough to see what a late registration would have changed. */
const answersMin = 60

test('all namesrvs killed under load: producers and consumers go on, over a leader kill too; one that comes back empty is complete within one registration period, and a new client sends', async () => {
  await withPlan({ namesrvs: 2 }, every(registerIntervalMs), async (session) => {
    const { client, plan } = session
    const producer = client.producer({ sendTimeoutMs: patienceMs })
    const load = await startLoad(session, producer, { topic, queues })
    const consumer = client.pullConsumer()
    await consumer.assign(topic, { from: 'first' })
    const reading = new Reading(consumer)
    /** The load and the consumer get `stepMessages` further from here. */
    const goOn = async (what: string): Promise<void> => {
      const acknowledged = load.acknowledged
      await until(session, `sends go on ${what}`, () => load.acknowledged > acknowledged + stepMessages)
      const read = load.acknowledged
      await until(session, `the consumer goes on ${what}`, () => reading.messages >= read)
    }
    await goOn('before the fault')
    const [first, second] = plan.namesrvs
    if (!first || !second) throw new Error('two namesrvs were planned')
    await kill(session, [first.name, second.name])
    await goOn('without any namesrv')
    const old = await leaderName(session)
    await kill(session, [old])
    await goOn('under a new leader that no namesrv knows')
    start(session, [old])
    await session.cluster.waitHealthy(patienceMs)

    start(session, [second.name])
    expect(await timeUntilComplete(session, second.port)).toBeLessThan(registerIntervalMs)
    await using newcomer = await connect({ namesrv: namesrvAddresses(plan) })
    await using sender = newcomer.producer({ autoCreateTopics: false, sendTimeoutMs: patienceMs })
    const { queue } = await sender.send({ topic, body: 'new here', properties: { newcomer: 'yes' } })
    expect(queue.topic).toBe(topic)
    await goOn('afterwards')

    await load.stop()
    expect(load.errors).toEqual([])
    expect(reading.gaps).toEqual([])
    await until(session, 'everything is read', () => reading.messages === load.acknowledged + 1)
    await Promise.all([producer.close(), reading.close()])
  })
})

test('N1: an old leader that is killed and comes back, or sleeps and wakes, never hides the new one: its term does not go back, one term has one leader', async () => {
  await withPlan({ namesrvs: 1 }, every(registerIntervalMsMin), async (session) => {
    const { cluster, plan } = session
    const port = plan.namesrvs[0]?.port ?? 0
    await using watch = new RouteWatch(session, port)
    for (const fault of ['SIGKILL', 'SIGSTOP'] as const) {
      let old = ''
      await until(session, 'the route names the leader', async () => {
        old = await leaderName(session)
        return watch.last.leader === nodeOf(session, old)
      })
      const before = watch.last
      cluster.processes.signal(old, fault)
      const after = await watch.until(
        'a new leader is known',
        ({ leader, term }) => leader !== '' && term > before.term,
      )
      if (fault === 'SIGKILL') {
        await cluster.processes.waitGone(old, patienceMs)
        // Processes that wake or start learn of the new term first; what an old one could say in between is said here.
        await settles(async () => {
          const { leader } = watch.last
          const stale = await watch.claim(before)
          expect(stale.status).toMatchObject({ code: errorTable.NOT_LEADER.number, leaderNode: leader })
        })
        start(session, [old])
      } else {
        // Asleep for longer than a period: the first thing it does is to register, as the leader that it was.
        await watch.passPeriods(2)
        cluster.processes.signal(old, 'SIGCONT')
      }
      const back = nodeOf(session, old)
      await watch.until('the old leader is registered and follows', ({ nodes }) => nodes.includes(back))
      await cluster.waitHealthy(patienceMs)
      // Whatever it still had to say, it says within one period of registration.
      await watch.passPeriods(2)
      // On a busy machine there may be a newer one by now: `problems` tells when it is an older one.
      await watch.until('the newest leader is known', ({ leader, term }) => leader !== '' && term >= after.term)
    }
    expect(watch.problems).toEqual([])
    // The watcher saw three leaderships, and asked often enough to mean something.
    expect(watch.terms.length).toBeGreaterThanOrEqual(3)
    expect(watch.answers).toBeGreaterThan(200)
  })
})

function nodeOf({ plan }: Session, name: string): string {
  return plan.nodes.find((node) => node.name === name)?.node ?? ''
}

/** Brokers register so often. */
function every(ms: number): (plan: ClusterPlan) => ClusterPlan {
  return (plan) => ({ ...plan, registerIntervalMs: ms })
}

/** From the first answer of this namesrv until it knows every broker, the leader and the topic. */
async function timeUntilComplete(session: Session, port: number): Promise<number> {
  const channel = channelTo(port)
  const ask = (): Promise<RouteReply | null> =>
    channel.call(namesrvMethods.getRoute, { topics: [topic] }, { timeoutMs: routeTimeoutMs }).catch(() => null)
  let firstMs: number | undefined
  try {
    await until(session, 'the namesrv knows everything again', async () => {
      const route = await ask()
      if (route) firstMs ??= systemClock.monotonicMs()
      const [group] = route?.groups ?? []
      const known = route?.topics[0]?.queues[0]?.writeQueues
      return group?.nodes.length === nodeNames(session).length && group.leader !== '' && known === queues
    })
    return systemClock.monotonicMs() - (firstMs ?? 0)
  } finally {
    channel.close()
  }
}

/** Counts what a consumer gets, queue by queue, without a gap. */
class Reading {
  readonly gaps: string[] = []
  readonly #consumer: PullConsumer
  readonly #next = new Map<string, number>()
  readonly #done: Promise<void>
  messages = 0

  constructor(consumer: PullConsumer) {
    this.#consumer = consumer
    this.#done = this.#read()
  }

  async close(): Promise<void> {
    await this.#consumer.close()
    await this.#done
  }

  async #read(): Promise<void> {
    for await (const batch of this.#consumer.batches()) {
      const name = `${batch.queue.group}/${batch.queue.queue}`
      for (const { offset } of batch.messages) {
        const expected = this.#next.get(name) ?? 0
        if (offset !== expected) this.gaps.push(`${name}: ${offset} follows, not ${expected}`)
        this.#next.set(name, offset + 1)
        this.messages++
      }
    }
  }
}

interface LeaderClaim {
  readonly leader: string
  readonly term: number
  readonly nodes: readonly string[]
  readonly route: RouteReply | null
}

const nobody: LeaderClaim = { leader: '', term: 0, nodes: [], route: null }

/** Asks a namesrv for the route all the time, and watches it; notes every answer that N1 forbids. */
class RouteWatch {
  readonly problems: string[] = []
  readonly #session: Session
  readonly #channel: Channel
  readonly #leaders = new Map<number, string>()
  readonly #asking: Promise<void>
  #pushed = nobody
  #closed = false
  last: LeaderClaim = nobody
  answers = 0

  constructor(session: Session, port: number) {
    this.#session = session
    this.#channel = channelTo(port)
    const sink = this.#channel.open(namesrvMethods.watchRoute, {
      onMessage: (route: RouteReply) => {
        this.#pushed = this.#judge(this.#pushed, route, 'pushed')
      },
      onClosed: () => {},
    })
    sink.write({ topics: [] })
    this.#asking = this.#ask()
  }

  get terms(): readonly number[] {
    return [...this.#leaders.keys()]
  }

  /** Asks on for at least so many periods of registration, and often enough to see something. */
  async passPeriods(count: number): Promise<void> {
    const endMs = systemClock.monotonicMs() + count * registerIntervalMsMin
    const answers = this.answers + answersMin
    await until(
      this.#session,
      `${count} periods of registration pass`,
      () => systemClock.monotonicMs() > endMs && this.answers >= answers,
    )
  }

  /** Registers as the leader of an earlier answer, on a stream that is closed once the namesrv has answered. */
  claim({ leader, term, route }: LeaderClaim): Promise<RegistrationAck> {
    const group = route?.groups[0]
    const address = group?.nodes.find(({ node }) => node === leader)?.address
    if (!group || address === undefined) throw new Error(`the route does not know ${leader}`)
    const { cluster, incarnation } = group
    const who = { cluster, group: group.group, node: leader, address, incarnation }
    return new Promise((resolve, reject) => {
      const sink = this.#channel.open(namesrvMethods.register, {
        onMessage: (ack) => {
          sink.end()
          resolve(ack)
        },
        onClosed: (error) => reject(error ?? new Error('the namesrv did not answer')),
      })
      sink.write({ ...who, term, role: 'leader', topics: [], topicsVersion: 0 })
    })
  }

  /** Waits for an answer as wanted. */
  async until(what: string, wanted: (claim: LeaderClaim) => boolean): Promise<LeaderClaim> {
    await until(this.#session, what, () => this.answers > 0 && wanted(this.last))
    return this.last
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true
    await this.#asking
    this.#channel.close()
  }

  /** One question after the other, until the watch is closed. */
  async #ask(): Promise<void> {
    while (!this.#closed) {
      const ask = this.#channel.call(namesrvMethods.getRoute, { topics: [] }, { timeoutMs: routeTimeoutMs })
      const route = await ask.catch(() => null)
      if (route) {
        this.answers++
        this.last = this.#judge(this.last, route, 'answered')
      }
      await sleep(systemClock, askPauseMs)
    }
  }

  /** Answers and pushes are two orders of their own: within each, no term goes back and no term changes its leader. */
  #judge(previous: LeaderClaim, route: RouteReply, how: string): LeaderClaim {
    const [group] = route.groups
    const nodes = group?.nodes.map(({ node }) => node) ?? []
    // A route without a leader names no term; it hides nothing.
    if (!group || group.leader === '') return { ...previous, leader: '', nodes }
    const { leader, term } = group
    if (term < previous.term) this.problems.push(`${how} term ${term} after ${previous.term}`)
    const known = this.#leaders.get(term) ?? leader
    if (known !== leader) this.problems.push(`${how} ${leader} as leader of term ${term}, which is ${known}'s`)
    this.#leaders.set(term, known)
    return { leader, term, nodes, route }
  }
}
