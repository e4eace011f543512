#!/usr/bin/env node
/**
 * The command line `ledgermq`. Knows the commands by name and loads only the one that is called, so that help and
 * mistakes answer at once. Every failure ends with a coded error on stderr and an exit code (see `output.ts`).
 */
import { Command, CommanderError } from 'commander'
import { printTalk, reportError } from './output.ts'
import { outputOf } from './output-option.ts'

interface Entry {
  readonly name: string
  readonly description: string
  readonly load: () => Promise<(program: Command) => void>
}

const entries: readonly Entry[] = [
  {
    name: 'fast-try',
    description: 'start a local cluster of real processes, break its leader, watch it recover',
    load: async () => (await import('./command/fast-try.ts')).registerFastTry,
  },
  {
    name: 'namesrv',
    description: 'run a namesrv',
    load: async () => (await import('./command/namesrv.ts')).registerNamesrv,
  },
  {
    name: 'broker',
    description: 'run one replica of a broker group',
    load: async () => (await import('./command/broker.ts')).registerBroker,
  },
  {
    name: 'topic',
    description: 'create, update, delete, describe and list topics',
    load: async () => (await import('./command/topic.ts')).registerTopic,
  },
  {
    name: 'produce',
    description: 'send messages',
    load: async () => (await import('./command/produce.ts')).registerProduce,
  },
  {
    name: 'consume',
    description: 'read messages',
    load: async () => (await import('./command/consume.ts')).registerConsume,
  },
  {
    name: 'cluster',
    description: 'list the brokers of a cluster, or watch what happens to them',
    load: async () => (await import('./command/cluster.ts')).registerCluster,
  },
  {
    name: 'raft',
    description: 'members and leadership of a broker group',
    load: async () => (await import('./command/raft.ts')).registerRaft,
  },
  {
    name: 'debug',
    description: 'look into the data of stopped brokers',
    load: async () => (await import('./command/debug.ts')).registerDebug,
  },
]

const usageExitCode = 2
/** As a shell reports a command that SIGINT ended. */
const interruptedExitCode = 130

async function main(argv: readonly string[]): Promise<void> {
  const program = new Command('ledgermq')
    .description('A message broker with the model of Apache RocketMQ whose CommitLog is a Raft log')
    .showHelpAfterError('(--help shows all options)')
    .exitOverride()
  const wanted = entries.find((entry) => entry.name === argv[2])
  if (wanted) (await wanted.load())(program)
  else for (const entry of entries) program.command(entry.name).description(entry.description)
  for (const command of everyCommand(program)) command.exitOverride()
  try {
    await program.parseAsync(argv)
  } catch (error) {
    // What was running when the signal came may never end by itself; everything it had started is gone.
    if (error instanceof Error && error.name === 'Interrupted') {
      printTalk('interrupted')
      process.exit(interruptedExitCode)
    }
    // Commander has told the user already; help and version are no failures.
    process.exitCode =
      error instanceof CommanderError ? (error.exitCode === 0 ? 0 : usageExitCode) : reportError(error, outputOf(argv))
  }
}

function everyCommand(command: Command): readonly Command[] {
  return command.commands.flatMap((child) => [child, ...everyCommand(child)])
}

process.on('unhandledRejection', (reason) => {
  printTalk(`unhandled rejection: ${reason instanceof Error ? (reason.stack ?? reason.message) : String(reason)}`)
  process.exit(1)
})
// A reader that stops early (`| head`) is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1))

await main(process.argv)
