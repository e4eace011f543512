/** Options that several commands share, and the client that they connect. */
import { type Command, Option } from 'commander'
import { type Client, connect } from '../client/mod.ts'
import { type OutputFlags, withOutput } from './output-option.ts'
import { addressList, positiveInteger } from './parse.ts'

export interface ClientFlags extends OutputFlags {
  readonly namesrv: readonly string[]
  readonly timeout: number
}

const defaultNamesrv = '127.0.0.1:9876'

export function withClientOptions(command: Command): Command {
  const connecting = command
    .addOption(
      new Option('-n, --namesrv <addresses>', 'namesrvs as host:port,…')
        .env('LEDGERMQ_NAMESRV')
        .argParser(addressList)
        .default([defaultNamesrv], defaultNamesrv),
    )
    .option('--timeout <ms>', 'total time of one request in milliseconds', positiveInteger, 10_000)
  return withOutput(connecting)
}

/** Connects, uses, and always closes: a command that is done leaves no handle behind. */
export async function withClient<T>(flags: ClientFlags, use: (client: Client) => Promise<T>): Promise<T> {
  const client = await connect({ namesrv: flags.namesrv, requestTimeoutMs: flags.timeout })
  try {
    return await use(client)
  } finally {
    await client.close()
  }
}
