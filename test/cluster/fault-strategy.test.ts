import { expect, test } from 'vitest'
import type { Load } from '../../src/cli/fast-try/load.ts'
import type { Session } from '../../src/cli/fast-try/session.ts'
import { type DelayProxy, startDelayProxy } from './delay-proxy.ts'
import { withPlan } from './planned.ts'
import { expectIntact, patienceMs, startLoad, until } from './support.ts'

const topic = 'TwoGroups'
const messagesPerSecond = 500
const addedMs = 800
/** Sends that make one measurement: one second of the load. */
const windowSends = messagesPerSecond

test(`updateFaultItem: a group that became ${addedMs} ms slower gets under 10 % of the sends, and 45 to 55 % once it has healed`, async () => {
  await withSlowableGroup(async (session, slow) => {
    const producer = session.client.producer({ sendTimeoutMs: patienceMs })
    const load = await startLoad(session, producer, { topic, messagesPerSecond })
    await until(session, 'both groups get half of the sends', async () =>
      isHalf(await share(session, load, slow.group)),
    )

    slow.proxy.delay(addedMs)
    await until(session, 'the slow group is set aside', async () => (await share(session, load, slow.group)) < 0.1)
    // It stays away: the detector's probes find it slow, no message has to. Without the fault strategy the limit of
    // batches in flight alone would still let one in a hundred go there. A busy machine makes the other one slow, too.
    await until(
      session,
      'the slow group stays away',
      async () => (await share(session, load, slow.group, 4 * windowSends)) < 0.003,
    )

    slow.proxy.delay(0)
    await until(session, 'the healed group has its half again', async () =>
      isHalf(await share(session, load, slow.group, 4 * windowSends)),
    )

    await load.stop()
    await producer.close()
    expect(load.errors).toEqual([])
    await expectIntact(session, load, topic)
  })
})

/** Two broker groups of one replica each; clients reach the second one through a proxy only. */
async function withSlowableGroup(
  use: (session: Session, slow: { readonly group: string; readonly proxy: DelayProxy }) => Promise<void>,
): Promise<void> {
  let targetPort = 0
  const proxy = await startDelayProxy(() => targetPort)
  let group = ''
  try {
    await withPlan(
      { groups: 2, nodesPerGroup: 1 },
      (plan) => {
        const [first, second] = plan.nodes
        if (!first || !second) throw new Error('two nodes were planned')
        targetPort = second.clientPort
        group = second.group
        return { ...plan, nodes: [first, { ...second, advertisedPort: proxy.port }] }
      },
      (session) => use(session, { group, proxy }),
    )
  } finally {
    await proxy.close()
  }
}

/** What part of the next `sends` messages goes to this group. Told by their acknowledgements. */
async function share(session: Session, load: Load, group: string, sends: number = windowSends): Promise<number> {
  const from = load.sent
  const inWindow = ({ sequence }: { readonly sequence: number }): boolean => sequence >= from && sequence < from + sends
  await until(session, 'the window is acknowledged', () => load.acknowledgements.filter(inWindow).length === sends)
  const there = load.acknowledgements.filter((entry) => inWindow(entry) && entry.group === group)
  return there.length / sends
}

function isHalf(part: number): boolean {
  return part >= 0.45 && part <= 0.55
}
