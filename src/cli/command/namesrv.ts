/** `ledgermq namesrv`: runs a namesrv until it is told to stop. */
import { type Command, Option } from 'commander'
import { systemClock } from '../../common/clock.ts'
import { createPinoLogger } from '../../common/pino-logger.ts'
import { startNamesrv } from '../../namesrv/namesrv.ts'
import { createGrpcTransport } from '../../rpc/grpc-transport.ts'
import { refuseOpenAddresses } from '../open-addresses.ts'
import { printData } from '../output.ts'
import { positiveInteger } from '../parse.ts'
import { runService } from '../service.ts'

interface Flags {
  readonly listen: string
  readonly registerInterval: number
  readonly logLevel: string
  readonly insecure?: boolean
  readonly exitWithStdin?: boolean
}

export function registerNamesrv(program: Command): void {
  program
    .command('namesrv')
    .description('run a namesrv')
    .option('--listen <address>', 'host:port to listen on', '127.0.0.1:9876')
    .option('--register-interval <ms>', 'how often brokers are asked to register', positiveInteger, 30_000)
    .addOption(
      new Option('--log-level <level>', 'least important line that is logged')
        .choices(['debug', 'info', 'warn', 'error'])
        .default('info'),
    )
    .option('--insecure', 'allow listening beyond this machine without TLS')
    .addOption(new Option('--exit-with-stdin', 'end when stdin ends').hideHelp())
    .action(async (flags: Flags) => {
      // The transport says what is wrong with an address that is none.
      if (flags.insecure !== true && isAddress(flags.listen)) refuseOpenAddresses([flags.listen])
      const logger = createPinoLogger(flags.logLevel)
      const transport = createGrpcTransport({ clock: systemClock, logger })
      const namesrv = await startNamesrv(
        { listen: flags.listen, registerIntervalMs: flags.registerInterval },
        { clock: systemClock, transport, logger },
      )
      printData(`namesrv ready on ${namesrv.address}`)
      await runService(namesrv, { exitWithStdin: flags.exitWithStdin === true })
    })
}

function isAddress(text: string): boolean {
  return /^[^\s]+:\d{1,5}$/.test(text)
}
