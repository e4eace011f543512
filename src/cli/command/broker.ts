/** `ledgermq broker`: runs one replica of a broker group until it is told to stop or cannot go on safely. */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { type Command, Option } from 'commander'
import { LevelKeyValueEngine, NodeDisk } from '../../../store/index.ts'
import { type Broker, startBroker } from '../../broker/broker.ts'
import type { BrokerPorts } from '../../broker/options.ts'
import { systemClock, systemRandom } from '../../common/clock.ts'
import type { Logger } from '../../common/logger.ts'
import { createPinoLogger } from '../../common/pino-logger.ts'
import { createGrpcTransport } from '../../rpc/grpc-transport.ts'
import { brokerFlags, brokerOptionsFrom } from '../broker-config.ts'
import { letHeapGrow } from '../heap.ts'
import { printData } from '../output.ts'
import { dieOf, runService } from '../service.ts'

interface Flags {
  readonly config?: string
  readonly bootstrap?: boolean
  readonly insecure?: boolean
  readonly exitWithStdin?: boolean
  readonly [key: string]: unknown
}

export function registerBroker(program: Command): void {
  const command = program.command('broker').description('run one replica of a broker group')
  command.option('--config <file>', 'JSON file with the same keys in camelCase; flags and environment win over it')
  for (const { flag, description } of brokerFlags) command.option(flag, description)
  command.addOption(new Option('--exit-with-stdin', 'end when stdin ends').hideHelp()).action(async (flags: Flags) => {
    letHeapGrow()
    const options = brokerOptionsFrom(flags, process.env)
    const logger = createPinoLogger(options.logLevel)
    const broker = await startBroker(options.broker, ports(logger))
    announce(broker, options.broker.directory)
    await runService(broker, { exitWithStdin: flags.exitWithStdin === true })
  })
}

function ports(logger: Logger): BrokerPorts {
  return {
    clock: systemClock,
    random: systemRandom,
    transport: createGrpcTransport({ clock: systemClock, logger }),
    disk: new NodeDisk('/'),
    engine: new LevelKeyValueEngine(),
    logger,
    bootId: async () => readBootId(),
    fatal: dieOf,
    pid: process.pid,
  }
}

function announce(broker: Broker, directory: string): void {
  printData(`broker ready on ${broker.address}, raft on ${broker.raftAddress}, data in ${resolve(directory)}`)
}

/** Linux tells when it was booted; elsewhere nothing is known, and the state store is checked at every start. */
function readBootId(): string | null {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
  } catch {
    return null
  }
}
