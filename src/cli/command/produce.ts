/** `ledgermq produce`: sends one message, many, or the lines of stdin. */
import { createInterface } from 'node:readline'
import type { Command } from 'commander'
import type { Producer, SendResult } from '../../client/mod.ts'
import { LedgerError } from '../../common/errors.ts'
import { type ClientFlags, withClient, withClientOptions } from '../options.ts'
import { printData, printJson } from '../output.ts'
import { positiveInteger } from '../parse.ts'

interface Flags extends ClientFlags {
  readonly count: number
  readonly tag?: string
  readonly key: readonly string[]
  readonly property: readonly string[]
}

/** Lines of stdin sent ahead of their answers. */
const inFlightMax = 1000

export function registerProduce(program: Command): void {
  const collect = (value: string, all: readonly string[]): readonly string[] => [...all, value]
  withClientOptions(program.command('produce').description('send messages'))
    .argument('<topic>')
    .argument('[body]', 'what to send; without it, or as -, every line of stdin is a message', '-')
    .option('-c, --count <n>', 'send the body this many times', positiveInteger, 1)
    .option('-t, --tag <tag>', 'tag for filtering')
    .option('-k, --key <key>', 'key for look-ups, may be repeated', collect, [])
    .option('-P, --property <name=value>', 'property, may be repeated', collect, [])
    .action(async (topic: string, body: string, flags: Flags) => {
      await withClient(flags, async (client) => {
        const producer = client.producer({ sendTimeoutMs: flags.timeout })
        try {
          await sendAll(producer, topic, body === '-' ? readLines() : repeat(body, flags.count), flags)
        } finally {
          await producer.close()
        }
      })
    })
}

async function sendAll(producer: Producer, topic: string, bodies: AsyncIterable<string>, flags: Flags): Promise<void> {
  const waiting: Promise<void>[] = []
  const extras = {
    ...(flags.tag === undefined ? {} : { tag: flags.tag }),
    ...(flags.key.length === 0 ? {} : { keys: flags.key }),
    properties: Object.fromEntries(flags.property.map(parseProperty)),
  }
  for await (const body of bodies) {
    waiting.push(producer.send({ topic, body, ...extras }).then((result) => print(result, flags)))
    if (waiting.length >= inFlightMax) await Promise.all(waiting.splice(0))
  }
  await Promise.all(waiting)
}

function print(result: SendResult, flags: Flags): void {
  if (flags.output === 'json') printJson(result)
  else
    printData(
      `${result.messageId} ${result.queue.group}/${result.queue.topic}/${result.queue.queue} offset ${result.offset} index ${result.index} term ${result.term}`,
    )
}

function parseProperty(text: string): readonly [string, string] {
  const at = text.indexOf('=')
  if (at < 1) throw new LedgerError('INVALID_PARAMETER', `--property ${text} is not name=value`)
  return [text.slice(0, at), text.slice(at + 1)]
}

async function* repeat(body: string, count: number): AsyncGenerator<string> {
  for (let index = 0; index < count; index++) yield body
}

async function* readLines(): AsyncGenerator<string> {
  for await (const line of createInterface({ input: process.stdin })) if (line !== '') yield line
}
