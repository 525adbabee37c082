@echo off
rem Installs stateproxy as a service from the folder of the release, or brings an
rem installed one to this release. Run it as administrator:
rem
rem     deploy\windows\install.cmd
rem
rem The binary goes to %ProgramFiles%\stateproxy, an example of the config to
rem %ProgramData%\stateproxy\config.yaml if there is none yet.
setlocal
set "release=%~dp0..\.."
set "program=%ProgramFiles%\stateproxy"
set "data=%ProgramData%\stateproxy"
set "exe=%program%\stateproxy.exe"
set "config=%data%\config.yaml"
if not exist "%release%\stateproxy.exe" goto nothing

set installed=no
if not exist "%exe%" goto stopped
"%exe%" service status >nul 2>&1
if not errorlevel 1 set installed=running
if "%installed%"=="running" "%exe%" service stop
if errorlevel 1 if "%installed%"=="running" exit /b 1
:stopped

if not exist "%program%" mkdir "%program%"
copy /y "%release%\stateproxy.exe" "%exe%" >nul
if errorlevel 1 exit /b 1
if exist "%config%" goto configured
if not exist "%data%" mkdir "%data%"
copy "%release%\config.example.yaml" "%config%" >nul
if errorlevel 1 exit /b 1
set example=yes
:configured

"%exe%" check -config "%config%"
if errorlevel 1 exit /b 1
if "%installed%"=="running" goto start
sc query stateproxy >nul 2>&1
if not errorlevel 1 goto start
"%exe%" service install
if errorlevel 1 exit /b 1

:start
if "%example%"=="yes" goto edit
"%exe%" service start
exit /b %errorlevel%

:edit
echo Now name your state servers in "%config%", then run:
echo     "%exe%" service start
exit /b 0

:nothing
echo install: there is no stateproxy.exe in "%release%"
exit /b 1
