/** Reads every message of a topic from offset 0, queue by queue, for `check.ts`. */
import type { Client } from '../../client/mod.ts'
import { LedgerError } from '../../common/errors.ts'
import type { ReadMessage } from './check.ts'
import { sequenceProperty } from './load.ts'

const drainTimeoutMs = 60_000

/** Reads up to the end that every queue has when this is called. */
export async function drain(client: Client, topic: string): Promise<readonly ReadMessage[]> {
  const messages: ReadMessage[] = []
  const consumer = client.pullConsumer()
  try {
    const missing = new Map<string, number>()
    for (const { group, queues } of await client.admin().describeTopic(topic))
      for (const { queue, maxOffset } of queues) if (maxOffset > 0) missing.set(`${group}/${queue}`, maxOffset)
    await consumer.assign(topic, { from: 'first' })
    const signal = AbortSignal.timeout(drainTimeoutMs)
    if (missing.size === 0) return messages
    for await (const batch of consumer.batches({ signal })) {
      const name = `${batch.queue.group}/${batch.queue.queue}`
      for (const message of batch.messages) {
        const sequence = Number(message.properties[sequenceProperty] ?? Number.NaN)
        messages.push({
          sequence,
          group: batch.queue.group,
          queue: batch.queue.queue,
          offset: message.offset,
          body: Buffer.from(message.body),
        })
        if (message.offset + 1 >= (missing.get(name) ?? 0)) missing.delete(name)
      }
      if (missing.size === 0) return messages
    }
    throw new LedgerError('TIMEOUT', `the queues ${[...missing.keys()].join(', ')} could not be read to their end`)
  } finally {
    await consumer.close()
  }
}
