# An object compiled for one instruction set may offer its table and nothing else: of an inline function that others have
# too the linker keeps one copy, which could be this one, on a processor that lacks the instructions.
# cmake -DNM=… -DOBJECTS=… -DSTAMP=… -P check.cmake
foreach(OBJECT IN LISTS OBJECTS)
  execute_process(COMMAND ${NM} --extern-only --defined-only ${OBJECT} OUTPUT_VARIABLE SYMBOLS COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX REPLACE "\n$" "" SYMBOLS "${SYMBOLS}")
  string(REPLACE "\n" ";" SYMBOLS "${SYMBOLS}")
  # DW.ref: an address, which the sanitizers' handlers of exceptions need.
  list(FILTER SYMBOLS EXCLUDE REGEX "[0-9]k[A-Za-z0-9]+(Kernels|Bytes)E$| DW\\.ref\\.")
  if(SYMBOLS)
    list(JOIN SYMBOLS "\n  " SYMBOLS)
    message(FATAL_ERROR "${OBJECT} must offer nothing but its table of kernels, but has\n  ${SYMBOLS}\n"
      "put it into the unnamed namespace, or do without the function of the standard library")
  endif()
endforeach()
file(TOUCH ${STAMP})
