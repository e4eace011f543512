/** `ledgermq consume`: reads the queues of a topic, as a member of a group (`--group`) or without leaving a trace. */
import { type Command, InvalidArgumentError, Option } from 'commander'
import type { Client, ConsumedMessage, ReadFrom, StartFrom } from '../../client/mod.ts'
import { type ClientFlags, withClient, withClientOptions } from '../options.ts'
import { printData, printJson } from '../output.ts'
import { positiveInteger } from '../parse.ts'

interface Flags extends ClientFlags {
  readonly group?: string
  readonly from: StartFrom
  readonly count: number
  readonly read: 'leader' | 'follower' | 'suggested'
  readonly node?: string
  readonly follow?: boolean
}

/** Without `--follow`: nothing more for so long means the end. */
const endAfterMs = 1000

export function registerConsume(program: Command): void {
  withClientOptions(program.command('consume').description('read messages'))
    .argument('<topic>')
    .option('-g, --group <group>', 'consume as a member of this group and commit its offsets')
    .option('--from <position>', 'start, end, or @milliseconds since the epoch', parseStart, 'first' as StartFrom)
    .option('-c, --count <n>', 'end after this many messages', positiveInteger, Number.POSITIVE_INFINITY)
    .option('-f, --follow', 'wait for more at the end')
    .addOption(
      new Option('--read <replica>', 'which replica to read')
        .choices(['leader', 'follower', 'suggested'])
        .default('leader'),
    )
    .option('--node <id>', 'read from this replica')
    .action(async (topic: string, flags: Flags) => {
      await withClient(flags, (client) =>
        flags.group === undefined
          ? readThrough(client, topic, flags)
          : consumeAsMember(client, topic, flags.group, flags),
      )
    })
}

async function readThrough(client: Client, topic: string, flags: Flags): Promise<void> {
  const consumer = client.pullConsumer({ readFrom: readPolicy(flags) })
  try {
    await consumer.assign(topic, { from: flags.from })
    let left = flags.count
    const waitMs = flags.follow ? Number.POSITIVE_INFINITY : endAfterMs
    for await (const batch of consumer.batches({ signal: untilInterrupted(), waitMs })) {
      for (const message of batch.messages) {
        print(message, flags)
        if (--left === 0) return
      }
    }
  } finally {
    await consumer.close()
  }
}

async function consumeAsMember(client: Client, topic: string, group: string, flags: Flags): Promise<void> {
  const consumer = client.pushConsumer({ group, subscribe: [topic], from: flags.from, readFrom: readPolicy(flags) })
  const stop = new AbortController()
  let left = flags.count
  untilInterrupted().addEventListener('abort', () => stop.abort(), { once: true })
  try {
    await consumer.run(
      async (message) => {
        // Handed out beyond the wanted number: not consumed, so it goes to whoever comes next.
        if (left <= 0) throw new Error('enough was read')
        print(message, flags)
        if (--left === 0) stop.abort()
      },
      { signal: stop.signal },
    )
  } finally {
    await consumer.close()
  }
}

function readPolicy(flags: Flags): ReadFrom {
  return flags.node === undefined ? flags.read : { node: flags.node }
}

function print(message: ConsumedMessage, flags: Flags): void {
  const body = Buffer.from(message.body).toString('utf8')
  if (flags.output === 'table') {
    printData(body)
    return
  }
  const { queue, offset, messageId, tag, keys, properties, bornTime, storeTime } = message
  printJson({ queue, offset, messageId, tag, keys, properties, bornTime, storeTime, body })
}

function parseStart(text: string): StartFrom {
  if (text === 'start' || text === 'first') return 'first'
  if (text === 'end' || text === 'last') return 'last'
  const time = Number(text.slice(1))
  if (text.startsWith('@') && Number.isSafeInteger(time)) return { time }
  throw new InvalidArgumentError('expected start, end or @milliseconds.')
}

function untilInterrupted(): AbortSignal {
  const stop = new AbortController()
  process.once('SIGINT', () => stop.abort())
  process.once('SIGTERM', () => stop.abort())
  return stop.signal
}
